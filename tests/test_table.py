"Rows of predictions as CSV, JSON and HTML: nothing is lost, and nothing that a file's name says is executed."

import csv
import html
import io
import json
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_prediction import made

from xraypneu.data.image import ImageError
from xraypneu.serving.table import COLUMNS, CsvWriter, JsonWriter, as_row, film_html, to_csv, to_html


def prediction(**kw):
    return made(**{"name": "n.png", "verdict": "UNSURE"} | kw)


ERROR = ImageError("the file is empty", "Copy it again.", "empty", "e.png")


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_a_row_of_each_kind():
    row = as_row("f.png", prediction())
    assert row == {
        "file": "f.png",
        "verdict": "UNSURE",
        "probability": 0.25,
        "label": "NORMAL",
        "threshold": 0.5,
        "ood_score": 0.5,
        "reasons": ["one", "two"],
        "bundle": "b" * 64,
    }
    assert as_row("e.png", ERROR) == {
        "file": "e.png",
        "error": "e.png: the file is empty. Copy it again.",
        "code": "empty",
    }


def test_csv_has_all_columns_in_order():
    text = to_csv([as_row("f.png", prediction(ood_score=float("nan"))), as_row("e.png", ERROR)])
    assert text.splitlines()[0] == ",".join(COLUMNS) and text.endswith("\n") and "\r" not in text
    film, error = rows_of(text)
    assert film == {
        "file": "f.png",
        "verdict": "UNSURE",
        "probability": "0.250000",
        "label": "NORMAL",
        "threshold": "0.500000",
        "ood_score": "",
        "reasons": "one; two",
        "bundle": "b" * 64,
        "error": "",
    }
    assert error["error"] == str(ERROR) and error["verdict"] == error["probability"] == ""


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\nx"])
def test_no_cell_is_a_formula(name):
    assert rows_of(to_csv([{"file": name}]))[0]["file"] == "'" + name


def test_a_semicolon_in_a_name_begins_no_formula():
    "Spreadsheets of many languages split a line at semicolons, and not at commas."
    row = {"file": "a;=HYPERLINK(1); @x;b;c-1.png", "verdict": "NORMAL", "reasons": ["at 0.5", "dark"]}
    text = to_csv([row])
    cells = [cell for line in csv.reader(io.StringIO(text), delimiter=";") for cell in line]
    assert not any(cell.strip()[:1] in ("=", "+", "-", "@") for cell in cells), cells
    assert ";b;c-1.png" in text and "at 0.5; dark" in text  # what is no formula stays as it is


def test_a_carriage_return_in_a_name_ends_no_row():
    text = to_csv([{"file": "a\r=1+1,2.png"}, {"file": "\rb"}])
    assert "\r" not in text and [row["file"] for row in rows_of(text)] == ["a\ufffd=1+1,2.png", "\ufffdb"]


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_any_name_comes_back(name):
    cell = rows_of(to_csv([{"file": name}, {"file": "last"}]))[0]["file"]
    shown = name.replace("\r", "\ufffd")
    assert cell in (shown, "'" + shown) and cell[:1] not in ("=", "+", "-", "@", "\t", "\n")
    out = io.StringIO()
    JsonWriter(out).write({"file": name})
    assert out.getvalue().isascii() and json.loads(out.getvalue()) == {"file": name}


def test_writers_write_row_by_row():
    out = io.StringIO()
    writer = CsvWriter(out)
    assert out.getvalue() == ",".join(COLUMNS) + "\n"
    writer.write({"file": "a", "unknown": 1})
    assert out.getvalue().splitlines()[1] == "a" + "," * (len(COLUMNS) - 1)


class Page(HTMLParser):
    "Tags, attributes and text of a page."

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.images = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.images += [dict(attrs)] if tag == "img" else []

    def handle_data(self, data):
        self.text.append(data)


def test_page_counts_and_tells():
    rows = [
        as_row("f.png", prediction()),
        as_row("g.png", prediction(verdict="NORMAL")),
        as_row("e.png", ERROR),
        as_row("h.png", prediction(verdict="NORMAL", reasons=())),
    ]
    page = to_html(rows, "My films", "SYNTHETIC & drawn")
    assert "1 UNSURE, 2 NORMAL, 1 not read" in page and "SYNTHETIC &amp; drawn" in page
    seen = " ".join(Page(page).text)
    assert "My films" in seen and "not read: e.png: the file is empty" in seen
    assert "0.250" in seen and "0.500" in seen and "b" * 16 in seen and "b" * 17 not in seen
    assert Page(page).tags.count("tr") == 5 and page.count('class="notice"') == 2
    assert "no files" in to_html([]) and to_html([]).count('class="notice"') == 1
    labelled = to_html([rows[0] | {"truth": "PNEUMONIA"}], found=["sensitivity: 1 of 1 < 2"])
    assert "<i>Label: PNEUMONIA</i>" in labelled and "<p>sensitivity: 1 of 1 &lt; 2</p>" in labelled
    assert "Label" not in page


@pytest.mark.parametrize("p,text", [(0.9996, "> 0.999"), (0.0004, "< 0.001")])
def test_no_probability_looks_certain_to_people(p, text):
    "0.9996 was 1.000 in both reports and in notebooks. A CSV has the number."
    answer = prediction(probability=p, verdict="NORMAL")
    row = as_row("f.png", answer)
    for page in (to_html([row]), film_html(row, answer.explanation.rationale), answer._repr_html_()):
        assert html.escape(text) in page and "1.000" not in page and "0.000" not in page
    assert f"Probability {text}, " in answer.explanation.rationale
    assert rows_of(to_csv([row]))[0]["probability"] == f"{p:.6f}"


@given(st.text(max_size=40))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_nothing_in_a_row_becomes_markup(text):
    text = "<script>alert(1)</script>" + text + "'\"><b onload=x>"
    row = {
        "file": text,
        "verdict": text,
        "reasons": [text],
        "bundle": text,
        "probability": 0.5,
        "pictures": [(text, "data:image/png;base64,AA"), (text, "javascript:alert(1)"), (text, "https://x.invalid")],
    }
    page = Page(to_html([row, {"file": text, "error": text}], title=text, notice=text))
    assert not {"script", "b onload"} & set(page.tags) and page.tags.count("b") == 1
    assert [image["src"] for image in page.images] == ["data:image/png;base64,AA"]
