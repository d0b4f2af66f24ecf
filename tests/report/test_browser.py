"""A report in a real browser: what is clicked is what is shown, and nothing is asked of a network."""

import base64
import importlib.util
import io
import json
from pathlib import Path

import numpy as np
import pytest
from browsing import chromium, find_browser, open_report
from PIL import Image

from pyro_mfcvae import Facet, Schedule, fit, presets
from pyro_mfcvae.networks import FullyConnectedLadder

pytest.importorskip("selenium")
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

CLUSTERS = (14, 3)
ALL = Keys.CONTROL + "a" + Keys.NULL  # selects what was typed before
NAME = "kind</script><b>"


@pytest.fixture(scope="module")
def browser():
    try:
        find_browser()
    except ValueError as reason:
        pytest.skip(str(reason))
    with chromium() as driver:
        yield driver


@pytest.fixture(scope="module", params=["picture", "profile"])
def opened(request, browser, tmp_path_factory):
    """A browser with a report in it, and the report's data."""
    x_shape = (1, 8, 8) if request.param == "picture" else (6,)
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(10, *x_shape))[np.arange(90) % 10] + 0.05 * rng.normal(size=(90, *x_shape))
    config = presets.tabular(
        facets=tuple(Facet(K, 2) for K in CLUSTERS),
        network=FullyConnectedLadder(widths=(64, 64)),
        data_init=False,
        schedule=Schedule.progressive(2, epochs=10, warm_up_epochs=5, batch_size=10, learning_rate=3e-3),
    )
    fitted = fit(x, config, seed=2, progress=False, precision="float32")
    path = tmp_path_factory.mktemp(request.param) / "a report.html"
    fitted.report(path, x, np.arange(90) % 2, [NAME], title="<i>Title</i>")
    for kind in ("browser", "performance"):
        browser.get_log(kind)  # of the page before
    open_report(browser, path)
    text = path.read_text("utf-8")
    data = json.loads(text.partition('id="explorer-data">')[2].partition("</script>")[0])
    return browser, data, path


@pytest.fixture(autouse=True)
def _complains_of_nothing(opened):
    yield
    driver = opened[0]
    # That pixels are read often is the tests' doing.
    assert [entry for entry in driver.get_log("browser") if entry["source"] != "rendering"] == []
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    urls = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert {url.split(":")[0] for url in urls} <= {"file", "data"}


def find(driver, selector):
    return driver.find_elements("css selector", selector)


def text_of(driver, name):
    return driver.execute_script("return document.getElementById(arguments[0]).textContent", name)


def radio(driver, j, i):
    return find(driver, f'input[name="cluster-{j}"][value="{i}"]')[0]


def chosen(driver):
    return tuple(
        int(find(driver, f'input[name="cluster-{j}"]:checked')[0].get_attribute("value")) for j in (0, 1)
    )


def click(driver, element):
    driver.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
    element.click()


def press(driver, element, *keys):
    """A key at a time: another element may have the focus after each."""
    driver.execute_script("arguments[0].focus()", element)
    for key in keys:
        driver.switch_to.active_element.send_keys(key)


def drawn(driver, selector):
    """What tiles show: paths, or pixels of their red channel."""
    script = """return [...document.querySelectorAll(arguments[0])].map(tile =>
        tile.firstElementChild ? tile.firstElementChild.getAttribute('d')
            : [...tile.getContext('2d').getImageData(0, 0, tile.width, tile.height).data]
            .filter((_, i) => i % 4 === 0)
    )"""
    return driver.execute_script(script, selector)


def same(found, store, indices):
    """Whether tiles show what is at some places of a store."""
    if "paths" in store:
        return found == [store["paths"][i] for i in indices]
    sheet = Image.open(io.BytesIO(base64.b64decode(store["sheet"].partition(",")[2])))
    width, height = store["cell"]
    expected = []
    for i in indices:
        left, top = i % store["columns"] * width, i // store["columns"] * height
        expected.append(np.asarray(sheet.crop((left, top, left + width, top + height))).ravel())
    return np.shape(found) == np.shape(expected) and np.abs(np.array(found) - expected).max(initial=0) <= 4


def check_shown(opened, a, b, t):
    """That the explorer shows a combination of clusters at a temperature, in pictures and in words."""
    driver, data, _ = opened
    assert chosen(driver) == (a, b)
    store, draws, combination = data["generated"][t], data["draws"][t], a * CLUSTERS[1] + b
    assert same(drawn(driver, ".picture .tile"), store, [combination * draws])
    assert same(drawn(driver, "#draws .tile"), store, [combination * draws + s for s in range(1, draws)])
    rows, columns = (drawn(driver, f".picker:nth-of-type({j}) .tile") for j in (1, 2))
    assert same(rows, store, [(i * CLUSTERS[1] + b) * draws for i in range(CLUSTERS[0])])
    assert same(columns, store, [(a * CLUSTERS[1] + i) * draws for i in range(CLUSTERS[1])])
    assert same(drawn(driver, "#real .tile"), data["real"], data["shown"][combination])
    names = [data["realNames"][i] for i in data["shown"][combination]]
    assert [item.text for item in find(driver, "#real li")] == names
    count, says = data["counts"][combination], text_of(driver, "says")
    assert f"Facet 0 cluster {a}" in says
    assert f"facet 1 cluster {b}" in says
    assert f"temperature {data['temperatures'][t]:g}." in says
    assert says.endswith(
        f"{count or 'None'} of 90 data {'have' if count > 1 else 'has'} exactly this combination."
    )
    assert text_of(driver, "real-says").startswith("Data whose" if count else "No datum has exactly")


def set_temperature(driver, t):
    slider = find(driver, "#temperature")[0]
    press(driver, slider, Keys.HOME, *[Keys.ARROW_RIGHT] * t)


def test_starts_with_the_most_frequent_combination(opened):
    driver, data, path = opened
    open_report(driver, path)
    most = int(np.argmax(data["counts"]))
    check_shown(opened, most // CLUSTERS[1], most % CLUSTERS[1], 2)


def test_by_mouse(opened):
    driver, data, _ = opened
    set_temperature(driver, 2)
    unseen = [divmod(i, CLUSTERS[1]) for i, count in enumerate(data["counts"]) if count == 0]
    seen = [divmod(i, CLUSTERS[1]) for i, count in enumerate(data["counts"]) if count > 0]
    for a, b in (seen[-1], unseen[0], unseen[-1], seen[0]):
        click(driver, radio(driver, 0, a))
        click(driver, radio(driver, 1, b))
        check_shown(opened, a, b, 2)


def test_by_keyboard(opened):
    driver, _, _ = opened
    set_temperature(driver, 1)
    click(driver, radio(driver, 0, 3))
    click(driver, radio(driver, 1, 0))
    press(driver, radio(driver, 0, 3), Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_LEFT)
    check_shown(opened, 4, 0, 1)
    tops = [radio(driver, 0, i).location["y"] for i in range(CLUSTERS[0])]
    columns = tops.count(tops[0])
    assert 1 < columns <= CLUSTERS[0] - 4
    press(driver, radio(driver, 0, 4), Keys.ARROW_DOWN)
    check_shown(opened, 4 + columns, 0, 1)
    press(driver, radio(driver, 0, 4 + columns), Keys.ARROW_UP, Keys.ARROW_UP)  # there is no row above
    check_shown(opened, 4, 0, 1)
    press(driver, radio(driver, 0, 4), Keys.TAB)  # one stop for each facet
    assert driver.switch_to.active_element == radio(driver, 1, 0)
    press(driver, radio(driver, 1, 0), Keys.ARROW_RIGHT)
    check_shown(opened, 4, 1, 1)


def test_temperature(opened):
    driver, data, _ = opened
    a, b = chosen(driver)
    for t in (0, 4, 3):
        set_temperature(driver, t)
        check_shown(opened, a, b, t)
        slider = find(driver, "#temperature")[0]
        assert float(slider.get_attribute("aria-valuetext")) == data["temperatures"][t]
    set_temperature(driver, 2)


def test_buttons_of_the_explorer(opened):
    driver, data, _ = opened
    for _ in range(3):
        click(driver, find(driver, "#unseen")[0])
        a, b = chosen(driver)
        assert data["counts"][a * CLUSTERS[1] + b] == 0
        check_shown(opened, a, b, 2)
    click(driver, find(driver, "#common")[0])
    a, b = chosen(driver)
    assert data["counts"][a * CLUSTERS[1] + b] == max(data["counts"])
    click(driver, find(driver, "#random")[0])
    check_shown(opened, *chosen(driver), 2)
    gallery = find(driver, ".gallery")[0]
    card = next(
        c for c in gallery.find_elements("css selector", ".card") if c.get_attribute("data-number") == "9"
    )
    click(driver, card.find_element("css selector", ".explore"))
    check_shown(opened, 9, chosen(driver)[1], 2)
    assert driver.switch_to.active_element == radio(driver, 0, 9)


def cards(gallery):
    """What the cards that are shown are sorted and filtered by, in their order."""
    script = """const shown = arguments[0].querySelectorAll(".card:not([hidden])");
        return [...shown].map(card => ({...card.dataset}))"""
    return gallery.parent.execute_script(script, gallery)


def test_galleries_are_sorted_and_filtered(opened):
    driver, _, _ = opened
    gallery = find(driver, ".gallery")[0]
    control = {
        name: gallery.find_element("css selector", f".{name}") for name in ("sort", "text", "least", "hide")
    }
    for key in ("confidence", "weight", "purity", "number", "size"):
        Select(control["sort"]).select_by_value(key)
        values = [float(card[key]) for card in cards(gallery)]
        assert len(values) == CLUSTERS[0]
        assert values == sorted(values, reverse=key != "number")
    everything = cards(gallery)
    assert 2 <= sum(card["size"] != "0" for card in everything) < CLUSTERS[0]
    status = gallery.find_element("css selector", ".shown")

    click(driver, control["hide"])
    assert cards(gallery) == [card for card in everything if card["size"] != "0"]
    click(driver, control["hide"])
    control["least"].send_keys(ALL + "7")
    assert cards(gallery) == [card for card in everything if int(card["size"]) >= 7]
    assert status.text == f"{len(cards(gallery))} of {CLUSTERS[0]} clusters shown"
    control["least"].send_keys(ALL + "0")
    for query, matching in (
        ("cluster 1", lambda phrases: "cluster 1" in phrases),
        ("13", lambda phrases: "13" in phrases),
        (f"{NAME.upper()} 1", lambda phrases: f"{NAME} 1" in phrases),
        ("clus", lambda phrases: True),
        ("nothing", lambda phrases: False),
    ):
        control["text"].send_keys(ALL + query)
        assert cards(gallery) == [c for c in everything if matching(c["phrases"].split("\n"))], query
    control["text"].send_keys(ALL + " ")
    assert cards(gallery) == everything
    assert len(cards(find(driver, ".gallery")[1])) == CLUSTERS[1]  # the other facet has its own controls


def test_theme(opened):
    driver, _, _ = opened
    background = "return getComputedStyle(document.body).backgroundColor"
    button = find(driver, "#theme")[0]
    driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    )
    WebDriverWait(driver, 10).until(lambda _: button.get_attribute("aria-pressed") == "true")
    dark = driver.execute_script(background)
    click(driver, button)
    light = driver.execute_script(background)
    assert button.get_attribute("aria-pressed") == "false"
    assert sum(map(int, dark[4:-1].split(","))) < 150 < 600 < sum(map(int, light[4:-1].split(",")))
    press(driver, button, Keys.SPACE)
    assert driver.execute_script(background) == dark
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_user_text_is_text(opened):
    driver, _, _ = opened
    assert driver.title == "<i>Title</i>"
    assert find(driver, "h1")[0].text == "<i>Title</i>"
    assert find(driver, "b, i") == []
    assert NAME in find(driver, "#scores strong")[0].text


def test_script_leaves_no_globals(opened):
    driver, _, path = opened
    names = "return Object.getOwnPropertyNames(window)"
    with_report = set(driver.execute_script(names))
    blank = path.with_name("blank.html")
    blank.write_text("<!doctype html><title>Blank</title>")
    driver.get(blank.as_uri())
    # These are of chromedriver.
    assert with_report - set(driver.execute_script(names)) <= {"ret_nodes", "se_exportedFunctionSymbol"}
    open_report(driver, path)


@pytest.mark.parametrize("width", [360, 1600])
def test_fits_a_phone_and_a_wide_screen(opened, width):
    driver, _, path = opened
    metrics = {"width": width, "height": 740, "deviceScaleFactor": 1, "mobile": width < 400}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        open_report(driver, path)
        widths = "return [innerWidth, document.documentElement.scrollWidth]"
        assert max(driver.execute_script(widths)) == width
        click(driver, radio(driver, 0, 2))
        assert chosen(driver)[0] == 2
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_skip_link(opened):
    driver, _, path = opened
    open_report(driver, path)
    find(driver, "body")[0].send_keys(Keys.TAB)
    assert driver.switch_to.active_element.text == "Skip to the content"
    driver.switch_to.active_element.send_keys(Keys.ENTER)
    assert driver.switch_to.active_element.get_attribute("id") == "main"


def test_clicks_can_be_timed(opened):
    """How long they take says how busy the machine is."""
    file = Path(__file__).parents[1] / "benchmarks" / "report_latency.py"
    spec = importlib.util.spec_from_file_location("report_latency", file)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    times = benchmark.click_times(opened[0], 3)
    assert times
    assert all(0 <= handled <= shown for handled, shown in times)
