"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const root = document.documentElement;
  const data = JSON.parse(byId("explorer-data").textContent);

  // Theme

  const themeButton = byId("theme");
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");

  function setTheme(isDark) {
    root.dataset.theme = isDark ? "dark" : "light";
    themeButton.setAttribute("aria-pressed", String(isDark));
  }

  setTheme(prefersDark.matches);
  prefersDark.addEventListener("change", (event) => setTheme(event.matches));
  themeButton.addEventListener("click", () => setTheme(root.dataset.theme !== "dark"));

  // Galleries: cards carry what they are sorted and filtered by

  function matches(card, query) {
    // A number is meant as a whole: "1" is not cluster 10.
    const isWhole = /\d$/.test(query);
    const phrases = card.dataset.phrases.split("\n");
    return phrases.some((phrase) => phrase === query || (!isWhole && phrase.startsWith(query)));
  }

  function setUpGallery(gallery) {
    const find = (selector) => gallery.querySelector(selector);
    const list = find(".cards");
    const cards = [...list.children];

    function arrange() {
      const key = find(".sort").value;
      const query = find(".text").value.trim().toLowerCase();
      const least = Number(find(".least").value) || 0;
      const sign = key === "number" ? 1 : -1;
      const value = (card) => sign * Number(card.dataset[key]);
      cards.sort((a, b) => value(a) - value(b) || a.dataset.number - b.dataset.number);
      let count = 0;
      for (const card of cards) {
        const size = Number(card.dataset.size);
        card.hidden = size < least || (find(".hide").checked && size === 0) || (query !== "" && !matches(card, query));
        count += card.hidden ? 0 : 1;
      }
      list.append(...cards);
      find(".shown").textContent = `${count} of ${cards.length} clusters shown`;
    }

    for (const event of ["input", "change"]) find(".controls").addEventListener(event, arrange);
    arrange();
  }

  document.querySelectorAll(".gallery").forEach(setUpGallery);

  // Tiles: a canvas takes its pixels from a sheet, an svg its path from a list

  async function load(store) {
    if (store.sheet === undefined) return;
    const image = new Image();
    image.src = store.sheet;
    await image.decode();
    store.bitmap = await createImageBitmap(image); // decoded once, so that a click need not wait for it
  }

  function paint(tile, store, index) {
    if (store.paths !== undefined) {
      tile.firstElementChild.setAttribute("d", store.paths[index]);
      return;
    }
    const { width, height } = tile;
    const left = (index % store.columns) * store.cell[0];
    const top = Math.floor(index / store.columns) * store.cell[1];
    tile.getContext("2d").drawImage(store.bitmap, left, top, width, height, 0, 0, width, height);
  }

  function newTile() {
    return byId("tile").content.firstElementChild.cloneNode(true);
  }

  // Explorer: one cluster of each facet is chosen; combinations are numbered in row-major order

  const pickers = [...document.querySelectorAll(".picker")];
  const radios = pickers.map((picker) => [...picker.querySelectorAll("input")]);
  const small = pickers.map((picker) => [...picker.querySelectorAll(".tile")]);
  const sizes = data.facets.map((clusters) => clusters.length);
  const large = document.querySelector(".picture .tile");
  const slider = byId("temperature");
  const chosen = clustersOf(data.counts.indexOf(Math.max(...data.counts)));

  function combinationOf(clusters) {
    return clusters.reduce((number, cluster, j) => number * sizes[j] + cluster, 0);
  }

  function clustersOf(combination) {
    const clusters = [];
    for (let j = sizes.length - 1; j >= 0; j--) {
      clusters[j] = combination % sizes[j];
      combination = Math.floor(combination / sizes[j]);
    }
    return clusters;
  }

  function chosenBut(facet, cluster) {
    return chosen.map((other, j) => (j === facet ? cluster : other));
  }

  function paintGenerated(tile, clusters, draw) {
    const t = Number(slider.value);
    paint(tile, data.generated[t], combinationOf(clusters) * data.draws[t] + draw);
  }

  function say(count) {
    const clusters = chosen.map((cluster, j) => {
      const { number, note } = data.facets[j][cluster];
      return `facet ${j} cluster ${number}${note ? ` (${note})` : ""}`;
    });
    const temperature = data.temperatures[slider.value];
    const total = data.numData.toLocaleString("en");
    const number = count ? count.toLocaleString("en") : "None";
    const have = `${number} of ${total} data ${count > 1 ? "have" : "has"}`;
    const text = `${clusters.join(", ")}, temperature ${temperature}. ${have} exactly this combination.`;
    byId("says").textContent = text[0].toUpperCase() + text.slice(1);
    byId("degree").textContent = temperature;
    slider.setAttribute("aria-valuetext", temperature);
  }

  function showDraws() {
    const tiles = [];
    for (let draw = 1; draw < data.draws[slider.value]; draw++) {
      const tile = newTile();
      tile.setAttribute("role", "img");
      tile.setAttribute("aria-label", `Draw ${draw + 1}`);
      paintGenerated(tile, chosen, draw);
      tiles.push(tile);
    }
    byId("draws").replaceChildren(...tiles);
  }

  function showReal(combination, count) {
    const shown = data.shown[combination];
    byId("real-says").textContent = count
      ? `Data whose clusters are exactly these, the most confident first (${shown.length} of ${count.toLocaleString("en")}).`
      : "No datum has exactly these clusters. Nearest to the means of the components, in the latents:";
    const items = shown.map((index) => {
      const [item, caption, tile] = [document.createElement("li"), document.createElement("span"), newTile()];
      tile.setAttribute("aria-hidden", "true"); // the caption says what it is
      paint(tile, data.real, index);
      caption.textContent = data.realNames[index];
      item.append(tile, caption);
      return item;
    });
    byId("real").replaceChildren(...items);
  }

  function update() {
    const combination = combinationOf(chosen);
    const count = data.counts[combination];
    paintGenerated(large, chosen, 0);
    small.forEach((tiles, j) =>
      tiles.forEach((tile, cluster) => paintGenerated(tile, chosenBut(j, cluster), 0)),
    );
    say(count);
    showDraws();
    showReal(combination, count);
  }

  function choose(clusters) {
    clusters.forEach((cluster, j) => {
      chosen[j] = cluster;
      radios[j][cluster].checked = true;
      const choice = radios[j][cluster].closest(".choice");
      const box = choice.parentElement;
      box.scrollTop = choice.offsetTop - (box.clientHeight - choice.clientHeight) / 2;
    });
    update();
  }

  function anyOf(combinations) {
    choose(clustersOf(combinations[Math.floor(Math.random() * combinations.length)]));
  }

  // Radio buttons know left and right; up and down shall move by rows.
  function moveByRow(event, j) {
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const top = (radio) => radio.closest(".choice").offsetTop;
    const columns = radios[j].filter((radio) => top(radio) === top(radios[j][0])).length;
    const target = radios[j][chosen[j] + step * columns];
    if (target === undefined) return;
    target.focus();
    target.click();
  }

  function setUpExplorer() {
    pickers.forEach((picker, j) => {
      picker.addEventListener("change", (event) => {
        chosen[j] = Number(event.target.value);
        update();
      });
      picker.addEventListener("keydown", (event) => moveByRow(event, j));
    });
    slider.addEventListener("input", update);
    const all = [...data.counts.keys()];
    const unseen = all.filter((combination) => data.counts[combination] === 0);
    const common = [...chosen];
    byId("random").addEventListener("click", () => anyOf(all));
    byId("common").addEventListener("click", () => choose(common));
    byId("unseen").addEventListener("click", () => anyOf(unseen));
    byId("unseen").disabled = unseen.length === 0;
    for (const card of document.querySelectorAll(".card")) {
      const { facet, number } = card.dataset;
      const cluster = data.facets[facet].findIndex((entry) => entry.number === Number(number));
      const button = card.querySelector(".explore");
      button.hidden = cluster < 0; // it may not be among the clusters that the explorer has
      button.addEventListener("click", () => {
        choose(chosenBut(Number(facet), cluster));
        byId("explorer").scrollIntoView();
        radios[facet][cluster].focus({ preventScroll: true });
      });
    }
    choose(chosen);
    root.dataset.ready = "true";
  }

  Promise.all([data.real, ...data.generated].map(load)).then(setUpExplorer);
})();
