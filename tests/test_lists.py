"""Checklists, metadata and citation: complete, from the measured numbers, and each link leads somewhere."""

import copy
import hashlib
import json
import math
import re

import pytest
from conftest import ROOT
from ruamel.yaml import YAML

from xraypneu.data.croissant import croissant
from xraypneu.evaluation.card import HUB_SET, card_text
from xraypneu.evaluation.checklists import (
    CHECKLISTS,
    CLAIM,
    NO,
    NOT_APPLICABLE,
    STATUSES,
    TRIPOD_AI,
    Source,
    anchor,
    answers,
    checklist_text,
    files_named,
    sections_of,
    share_answered,
)
from xraypneu.markdown import without_front_matter
from xraypneu.model.bundle import SHIPPED, BundleError, load_bundle
from xraypneu.ops import publish
from xraypneu.ops.convert import convert_metrics

RECORD = ROOT / "results/chest_xray"


@pytest.fixture(scope="module")
def shipped():
    "The shipped bundle and its metrics."
    return load_bundle(), json.loads((SHIPPED / "metrics.json").read_text())


def table(text):
    "Rows of the last table: number, item, status, answer, places."
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return rows[1:]


def links(text):
    return re.findall(r"\]\(([^)#]+)(?:#([^)]+))?\)", text)


# --- the checklists


def test_the_lists_have_all_items():
    assert [number for number, *_ in CLAIM.items] == [str(n) for n in range(1, 45)]
    parts = [number for number, *_ in TRIPOD_AI.items]
    assert len(parts) == len(set(parts)) == 52
    assert {int(re.match(r"\d+", number)[0]) for number in parts} == set(range(1, 28))


@pytest.mark.parametrize("checklist", CHECKLISTS.values(), ids=CHECKLISTS)
def test_every_item_is_answered_or_says_why_not(shipped, checklist):
    bundle, m = shipped
    text = checklist_text(checklist, bundle.info, m, bundle.hash, {})
    rows = table(text)
    assert [row[:2] for row in rows] == [[number, words] for number, words, _ in checklist.items]
    assert {row[2] for row in rows} <= set(STATUSES)
    assert all(len(row) == 5 and len(row[3]) > 10 for row in rows if row[2] != "yes")  # a reason
    open_ = sum(row[2] == NO for row in rows)
    assert f"**{len(rows) - open_} of {len(rows)} items are answered" in text
    assert share_answered(checklist, answers(bundle.info, m)) == pytest.approx(1 - open_ / len(rows))
    assert bundle.hash in text


def test_at_least_nine_tenths_of_claim_are_answered(shipped):
    bundle, m = shipped
    found = answers(bundle.info, m)
    assert share_answered(CLAIM, found) >= 0.9
    assert sum(found[topic].status == NOT_APPLICABLE for *_, topic in CLAIM.items) <= 3  # no way out


def test_what_nobody_knows_of_other_data_is_a_no(shipped):
    bundle, m = shipped
    own = copy.deepcopy(m)
    own["data"]["official_test"] = False
    for checklist in CHECKLISTS.values():
        text = checklist_text(checklist, bundle.info, own, bundle.hash, {})
        assert "Kermany" not in text and "Guangzhou" not in text and "rscbjbr9sj" not in text
        assert "holder of the data has to add it" in text
    assert share_answered(CLAIM, answers(bundle.info, own)) < 0.9


def test_synthetic_images_are_named_as_such(shipped):
    bundle, m = shipped
    info = bundle.info | {"data": bundle.info["data"] | {"synthetic": True, "notice": "SYNTHETIC <b>"}}
    text = checklist_text(CLAIM, info, m, "b0", {})
    assert "**SYNTHETIC &lt;b&gt;**" in text and "Kermany" not in text


def test_numbers_are_those_of_the_metrics(shipped):
    "Other metrics, other text; nothing is typed in."
    bundle, m = shipped
    other = copy.deepcopy(m)
    other["test"] |= {"roc_auc": 0.1234, "sensitivity": 0.2345, "fn": 77}
    other["robustness"]["mirrored"]["specificity"] = 0.0123
    before, after = (checklist_text(CLAIM, bundle.info, x, "b0", {}) for x in (m, other))
    for number in ("0.1234", "23.4 %", "False negatives: 77", "Lowest specificity 1.2 % (mirrored"):
        assert number in after and number not in before, number
    counts = copy.deepcopy(bundle.info)
    counts["data"]["counts"]["train"]["NORMAL"]["images"] = 98765
    assert "98,765 NORMAL" in checklist_text(CLAIM, counts, m, "b0", {})


@pytest.mark.parametrize("missing", ["value", "none", "section", "all"])
def test_a_missing_metric_is_not_measured(shipped, missing):
    "As in the metrics of an older or newer version."
    bundle, m = shipped
    m = copy.deepcopy(m)
    if missing == "value":
        del m["test"]["brier"]
    elif missing == "none":
        m["test"]["brier"] = None
    elif missing == "section":
        for section in ("robustness", "saliency", "ood", "test_low", "validation", "subgroups", "metadata_baseline"):
            del m[section]
    else:
        m = {"data": m["data"]}
    m["new metric of a later version"] = {"a": 1}
    for checklist in CHECKLISTS.values():
        text = checklist_text(checklist, bundle.info, m, "b0", {})
        assert re.search("not measured", text, re.I)
        assert not re.search(r"\bNone\b(?! (for|was))|nan", text), text
    assert ("Brier score not measured" in checklist_text(CLAIM, bundle.info, m, "b0", {})) is (missing != "section")
    if missing == "section":
        found = answers(bundle.info, m)
        assert {found[t].status for t in ("robustness", "explainability", "uncertainty", "poor_input")} == {NO}


def test_a_bundle_without_counts_and_versions_has_lists_too(shipped):
    bundle, m = shipped
    info = {k: v for k, v in bundle.info.items() if k not in ("versions", "history")}
    info["data"] = {k: v for k, v in info["data"].items() if k != "counts"}
    assert "train: not recorded" in checklist_text(CLAIM, info, m, "b0", {})


def test_external_sets_answer_their_items(shipped):
    bundle, m = shipped
    sets = [{"title": "Clinic | B", "conclusion": {"text": "Worse."}}]
    found = answers(bundle.info, m, sets)
    assert found["external"].status == found["clusters"].status == "yes" and found["external"].text == "Clinic \\| B."
    assert "Worse." in checklist_text(CLAIM, bundle.info, m, "b0", {}, sets)


def test_a_model_of_the_protocol_says_so(shipped):
    "Its recipe has the parameters that came with the protocol; the model of 0.2.0 has not."
    bundle, m = shipped
    newer = bundle.info | {"recipe": bundle.info["recipe"] | {"consistency": 0.0}}
    public = bundle.info | {"recipe": dict(weights="imagenet", batch_size=32, seed=0)}
    assert answers(public, m)["aims"].status == "in part"
    assert answers(newer, m)["aims"].status == "yes"
    assert "Written before training" in answers(newer, m)["protocol"].text


# --- where they refer to


def test_every_place_exists(shipped):
    "In the card and the report as they are written now, and in the files of the repository."
    bundle, m = shipped
    newer = bundle.info | {"recipe": bundle.info["recipe"] | {"consistency": 0.0}}
    sets = [{"title": "B", "conclusion": {"text": "Worse."}}]
    known = {
        "model_card.md": card_text(bundle.info, m, bundle.hash).encode(),
        "evaluate.ipynb": (ROOT / "nbs/pipeline/evaluate.ipynb").read_bytes(),
        "claim.md": b"## Summary\n",
        "croissant.json": b"",
    }
    for info, of in ((bundle.info, ()), (newer, ()), (bundle.info, sets)):
        found = answers(info, m, of)
        for name in files_named(found):
            content = known[name] if name in known else (RECORD / name).read_bytes()
            sections = sections_of(name, content)
            wanted = {p.partition("#")[2] for a in found.values() for p in a.places if p.partition("#")[0] == name}
            assert wanted - {""} <= set(sections), name


def test_a_file_that_a_project_lacks_is_not_linked(shipped):
    bundle, m = shipped
    text = checklist_text(CLAIM, bundle.info, m, "b0", {"metrics.json": Source("metrics.json")})
    assert {name for name, _ in links(text)} == {"metrics.json"}


# --- what is published


@pytest.fixture
def published(tmp_path, shipped):
    "A project with the shipped bundle and its record, whose lists are written."
    for name in ("test_files.csv", "predictions.csv", "metrics.json", "model_card.md", "evaluate.ipynb"):
        file = tmp_path / "results/chest_xray" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes((RECORD / name).read_bytes())
    (tmp_path / "results/test_looks.md").write_text("# Looks\n")
    (tmp_path / "shipped").mkdir()
    for file in SHIPPED.iterdir():
        (tmp_path / "shipped" / file.name).write_bytes(file.read_bytes())
    written = publish.write_lists(tmp_path, tmp_path / "shipped")
    return tmp_path, written


def check_links(folder):
    "Each link of the checklists in a folder leads to a file and, with an anchor, to a section of it."
    for name in CHECKLISTS:
        found = links((folder / name).read_text())
        assert len(found) > 20
        for href, at in found:
            file = folder / href
            assert file.is_file(), href
            if at:
                assert at in {anchor(href, s) for s in sections_of(href, file.read_bytes())}, f"{href}#{at}"


def test_the_lists_of_a_shipped_bundle(published, shipped):
    folder, written = published
    bundle, m = shipped
    assert {p.name for p in written} == {"README.md", "claim.md", "tripod_ai.md", "croissant.json"}
    assert load_bundle(folder / "shipped").hash == bundle.hash
    check_links(folder / "results/chest_xray")
    text = (folder / "results/chest_xray/claim.md").read_text()
    assert "../../shipped/README.md#metrics" in text and "protocol.md" not in text  # which this project lacks
    card = (folder / "shipped/README.md").read_text()
    assert without_front_matter(card) == without_front_matter((SHIPPED / "README.md").read_text())
    before = {p: p.read_bytes() for p in written}
    publish.write_lists(folder, folder / "shipped")
    assert {p: p.read_bytes() for p in written} == before


@pytest.mark.filterwarnings("ignore:.*is signed, but no signer is set")
def test_lists_of_another_model_or_a_signed_card_are_refused(published):
    folder, written = published
    (folder / "shipped/model.sig").write_text("{}")
    with pytest.raises(BundleError, match="is signed, and a signed card"):
        publish.write_lists(folder, folder / "shipped")
    (folder / "shipped/model.sig").unlink()
    m = json.loads((folder / "shipped/metrics.json").read_text())
    (folder / "shipped/metrics.json").write_text(json.dumps(m | {"model": {"hash": "0" * 64}}))
    with pytest.raises(BundleError, match="another model"):
        publish.write_lists(folder, folder / "shipped")
    (folder / "shipped/metrics.json").write_text(json.dumps(m))
    (folder / "results/chest_xray/metrics.json").write_text(json.dumps(m | {"model": {"hash": "0" * 64}}))
    with pytest.raises(BundleError, match="is the record of another model"):
        publish.write_lists(folder, folder / "shipped")


def test_ship_writes_the_lists_with_the_card_beside_them(tmp_path, shipped, monkeypatch):
    "Of the shipped bundle's own files, without a training; the card of an older evaluation has no metadata."
    bundle, m = shipped
    for file in SHIPPED.iterdir():
        target = tmp_path / ("reports" if file.name == "metrics.json" else "models/bundle") / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    files = {p.name: p.read_bytes() for p in RECORD.iterdir() if p.is_file() and p.name not in CHECKLISTS}
    files["model_card.md"] = without_front_matter(card_text(bundle.info, m, bundle.hash)).encode()
    monkeypatch.setattr(publish, "_check_record", lambda *_: None)
    monkeypatch.setattr(publish, "_prepared_of", lambda *_: None)
    monkeypatch.setattr(publish, "_published", lambda *_: files)
    monkeypatch.setattr(publish, "training_films", lambda _: {})
    new = publish.ship(tmp_path, tmp_path / "shipped")
    results = tmp_path / "results/chest_xray"
    check_links(results)
    assert "(model_card.md#metrics)" in (results / "claim.md").read_text() and new.hash == bundle.hash
    assert "(claim.md#summary)" in (results / "tripod_ai.md").read_text()
    check_croissant(json.loads((results / "croissant.json").read_text()), results)
    assert metadata((tmp_path / "shipped/README.md").read_text())["license"] == "apache-2.0"
    assert (tmp_path / "shipped/README.md").read_bytes() == (results / "model_card.md").read_bytes()


def test_other_data_get_no_croissant_metadata(tmp_path, shipped):
    "Nothing is known of their licence and source."
    bundle, m = shipped
    own = m | {"data": m["data"] | {"official_test": False}}
    assert publish._lists(tmp_path, bundle, own, {}, []).keys() == CHECKLISTS.keys()


def test_croissant_metadata_say_where_patients_come_from(tmp_path, shipped):
    "Before, always from file names, also where a table of patients was used."
    bundle, m = shipped
    files = {name: (RECORD / name).read_bytes() for name in ("test_files.csv", "predictions.csv")}
    for more, by in (({}, "file name"), ({"patient_table": True}, "a table of the patients")):
        measured = m | {"data": m["data"] | more}
        text = publish._lists(tmp_path, bundle, measured, files, [])["croissant.json"].decode()
        assert re.findall(r"Patients?, by (.+?)\.", text) == [by, by]


def test_the_committed_lists_are_those_of_the_shipped_bundle(shipped):
    "Written with it; a change of the text here shows in them with the next `make ship`."
    bundle, m = shipped
    check_links(RECORD)
    for name, checklist in CHECKLISTS.items():
        text = (RECORD / name).read_text()
        assert bundle.hash in text and len(table(text)) == len(checklist.items)
        assert f"ROC AUC {m['test']['roc_auc']:.4f}" in text
    described = json.loads((RECORD / "croissant.json").read_text())
    check_croissant(described, RECORD)


# --- Hugging Face


def metadata(text):
    block = re.match(r"---\n(.*?)\n---\n\n#", text, re.S)
    return YAML(typ="safe").load(block[1])


def test_the_card_has_metadata_that_hugging_face_reads(shipped):
    bundle, m = shipped
    for text in (card_text(bundle.info, m, bundle.hash), (SHIPPED / "README.md").read_text()):
        seen = metadata(text)
        assert seen["license"] == "apache-2.0" and seen["pipeline_tag"] == "image-classification"
        assert seen["library_name"] == "onnx" and "not-a-medical-device" in seen["tags"]
        assert seen["datasets"] == [HUB_SET]
        (model,) = seen["model-index"]
        (result,) = model["results"]
        assert result["task"]["type"] == seen["pipeline_tag"]
        assert result["dataset"]["type"] == HUB_SET and result["dataset"]["split"] == "test"
        values = {x["type"]: x["value"] for x in result["metrics"]}
        assert values["roc_auc"] == m["test"]["roc_auc"] and values["recall"] == m["test"]["sensitivity"]
        assert list(values) == seen["metrics"]


def test_metadata_leave_out_what_is_not_known(shipped):
    bundle, m = shipped
    none = m | {"test": {"roc_auc": math.nan, "accuracy": None}}
    assert not {"metrics", "model-index"} & metadata(card_text(bundle.info, none, "b0")).keys()
    title = bundle.info | {"data": bundle.info["data"] | {"title": "x\n---\n# y"}, "licence": "CC0"}
    seen = metadata(card_text(title, m | {"data": m["data"] | {"official_test": False}}, "b0"))
    assert seen["license"] == "other" and "datasets" not in seen and "y" not in str(seen["model-index"]).split()


def test_a_record_of_version_0_2_0_has_metadata(shipped):
    bundle, _ = shipped
    m = convert_metrics(json.loads((RECORD / "metrics.json").read_text()), bundle.hash)
    assert metadata(card_text(bundle.info, m, bundle.hash))["model-index"]


# --- Croissant


def ids(value):
    "All definitions (`@id` with `@type`) and references (`@id` alone)."
    if isinstance(value, dict):
        if "@id" in value:
            yield value["@id"], "@type" in value
        for inner in value.values():
            yield from ids(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from ids(inner)


def check_croissant(described, folder):
    "What mlcroissant requires, without its dependencies: fields, hashes, references, keys of inline data, columns."
    needed = {"@context", "@type", "conformsTo", "name", "description", "license", "url", "creator", "datePublished"}
    assert needed | {"citeAs", "version", "distribution", "recordSet"} <= described.keys()
    assert described["@type"] == "sc:Dataset" and "http://mlcommons.org/croissant/1.0" in described["conformsTo"]
    assert described["license"] == "https://creativecommons.org/licenses/by/4.0/"
    assert "10.1016/j.cell.2018.02.010" in described["citeAs"]
    for file in described["distribution"]:
        content = (folder / file["contentUrl"]).read_bytes()
        assert file["sha256"] == hashlib.sha256(content).hexdigest() and file["contentSize"] == f"{len(content)} B"
        assert file["@type"] == "cr:FileObject" and file["encodingFormat"] == "text/csv"
    found = list(ids({k: v for k, v in described.items() if k != "@context"}))
    defined = [name for name, is_definition in found if is_definition]
    assert len(defined) == len(set(defined)) and {name for name, _ in found} <= set(defined)
    for records in described["recordSet"]:
        fields = {f["@id"]: f for f in records["field"]}
        assert all(f["dataType"].startswith(("sc:", "cr:")) and f["description"] for f in fields.values())
        assert ("data" in records) != all("source" in f for f in fields.values())
        assert all(row.keys() == fields.keys() for row in records.get("data", []))
        for f in (f for f in fields.values() if "source" in f):
            header = (folder / f["source"]["fileObject"]["@id"]).read_text().splitlines()[0].split(",")
            assert f["source"]["extract"]["column"] in header


def test_the_prepared_set_is_described(shipped):
    bundle, _ = shipped
    files = [(RECORD / name).read_bytes() for name in ("test_files.csv", "predictions.csv")]
    described = croissant(bundle.info["data"], "1.0.0", *files)
    check_croissant(described, RECORD)
    counts = {r["name"]: r for r in described["recordSet"]}["counts"]["data"]
    assert sum(row["counts/images"] for row in counts if row["counts/split"] == "test") == 624


# --- citation


def test_the_citation_file_is_valid():
    "The fields that CITATION.cff 1.2.0 requires, and the forms of those that it restricts."
    cff = YAML(typ="safe").load(ROOT / "CITATION.cff")
    assert cff["cff-version"] == "1.2.0" and {"message", "title", "authors"} <= cff.keys()
    allowed = {"cff-version", "message", "type", "title", "abstract", "authors", "version", "license", "keywords"}
    assert cff.keys() <= allowed | {"references", "date-released", "doi", "url", "repository-code", "identifiers"}
    assert cff["type"] in ("software", "dataset") and cff["license"] == "Apache-2.0"
    for part in (cff, *cff["references"]):
        for author in part["authors"]:
            assert author.keys() <= {"given-names", "family-names", "name", "orcid", "affiliation", "email"}
            assert ("name" in author) != ("family-names" in author)
    for reference in cff["references"]:
        assert {"type", "title", "authors"} <= reference.keys() and isinstance(reference["year"], int)
        assert re.fullmatch(r"10\.\d{4,9}/\S+", reference["doi"])
    assert {r["type"] for r in cff["references"]} == {"data", "article"}
