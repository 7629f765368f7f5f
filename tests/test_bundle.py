"""Bundles that were changed, by chance or on purpose: refused with a reason, or equal in all but their hash."""

import copy
import hashlib
import io
import json
import random
import shutil
import sys
import tracemalloc
import zipfile

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from xraypneu import cli
from xraypneu.model.bundle import INT8, REFERENCE, SHIPPED, BundleError, load_bundle, write_bundle
from xraypneu.model.ood import OODDetector

SHIPPED_HASH = "3c4b4d81a3dc108b"  # begins so since its detector was fitted again
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 32, 32)).astype(np.uint8)
DELETED = object()


def toy(weight=1.0, bias=-100.0, name="image", kind=TensorProto.UINT8, features=None, change=None) -> bytes:
    "A network of the package's form: the logit is the weighted mean and a bias."
    nodes = [
        helper.make_node("Cast", [name], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["x", "w"], ["map"]),
        helper.make_node("ReduceMean", ["map"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("Add", ["mean", "b"], ["logit"]),
        helper.make_node("ReduceMean", ["map"], ["features"], axes=[2], keepdims=0),
    ]
    value = helper.make_tensor_value_info
    outputs = [
        value("logit", TensorProto.FLOAT, ["n"]),
        value("map", TensorProto.FLOAT, ["n", "h", "w"]),
        value("features", TensorProto.FLOAT, features or ["n", 32]),
    ]
    weights = [numpy_helper.from_array(np.float32([v]), name) for name, v in (("w", weight), ("b", bias))]
    graph = helper.make_graph(nodes, "toy", [value(name, kind, ["n", "h", "w"])], outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    if change:
        change(model)
    return model.SerializeToString()


def reference(features=32, **other) -> bytes:
    "The detector file of a network with so many features."

    def ones(*shape):
        return np.ones(shape, np.float32)

    arrays = dict(means=ones(2, features), basis=ones(1, features), variances=ones(2), weights=ones(features))
    return OODDetector(**arrays | {"scaling": np.float32([[0, 0], [1, 1]])} | other).to_bytes()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    "All that the shipped bundle says, about a toy network."
    info = {k: v for k, v in load_bundle().info.items() if k not in ("kind", "schema", "model_sha256", "parts_sha256")}
    info["input"] = {**info["input"], "size": 32}
    return write_bundle(tmp_path_factory.mktemp("bundle") / "toy", toy(), info, {INT8: toy(2), REFERENCE: reference()})


@pytest.fixture
def folder(written, tmp_path):
    return shutil.copytree(written.folder, tmp_path / "bundle")


def put(folder, name, content):
    "Another file, with its hash in bundle.json: as one who means it would do."
    (folder / name).write_bytes(content)
    info = json.loads((folder / "bundle.json").read_text())
    digest = hashlib.sha256(content).hexdigest()
    if name == "model.onnx":
        info["model_sha256"] = digest
    else:
        info["parts_sha256"][name] = digest
    (folder / "bundle.json").write_text(json.dumps(info))


def refused(folder, *words, precision="fp32"):
    with pytest.raises(BundleError) as e:
        load_bundle(folder, precision)
    for w in (str(folder), *words):
        assert w in str(e.value), e.value
    return str(e.value)


def test_shipped():
    for precision in ("fp32", "int8"):
        bundle = load_bundle(precision=precision)
        assert bundle.hash.startswith(SHIPPED_HASH) and bundle.model == bundle.model_file.read_bytes()
        assert bundle.detector.means.shape == (2, 1280)
    assert not [p for p in SHIPPED.iterdir() if p.name.startswith(".")]  # its folder is not written to


# --- values of bundle.json


VALUES = (
    float("nan"),
    float("inf"),
    -float("inf"),
    -1,
    0,
    1,
    2,
    0.5,
    -0.5,
    1.5,
    1e-300,
    1e300,
    10**400,
    True,
    False,
    None,
    "",
    "x",
    "0.5",
    "NaN",
    [],
    {},
    [0.5],
    {"low": 0},
    ["NORMAL", "NORMAL"],
    ["PNEUMONIA", "NORMAL"],
    "\ud800",
    "\x1b[2J",
    "y" * 20_000,
    224.0,
    100,
    1056,
    DELETED,
)
DECIDES = ("calibration", "threshold", "conformal", "input", "classes", "schema", "kind")
CAN_CHANGE = ("calibration", "threshold", "conformal", "operating", "input", "int8")  # what decides


def paths(value, at=()):
    "Where each value of a JSON document is; of long columns, three."
    yield at
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = [(i, value[i]) for i in sorted({0, len(value) // 2, len(value) - 1}) if 0 <= i < len(value)]
    else:
        return
    for k, v in items:
        yield from paths(v, (*at, k))


def changed(info, path, value):
    "The same document with one value changed."
    out = copy.deepcopy(info)
    if not path:
        return None if value is DELETED else value
    here = out
    for k in path[:-1]:
        here = here[k]
    if value is DELETED:
        del here[path[-1]]
    else:
        here[path[-1]] = value
    return out


def behaviour(bundle):
    "What decides about an image."
    return (
        bundle.size,
        bundle.threshold,
        bundle.info["classes"],
        bundle.variant.get("conformal"),
        list(bundle.probability(GRID)),
    )


GRID = np.concatenate([-np.logspace(14, -3, 40), [0.0], np.logspace(-3, 14, 40)])


def is_sane(bundle, was, what):
    "Both labels can come out, the more the logit the more the probability, and all that is shown can be shown."
    with np.errstate(over="ignore"):
        p = bundle.probability(GRID)
    assert np.isfinite(p).all() and (np.diff(p) >= 0).all() and p[0] < bundle.threshold <= p[-1], what
    assert bundle.info["classes"] == ["NORMAL", "PNEUMONIA"], what
    if limits := bundle.variant.get("conformal"):
        assert 0 <= limits["low"] <= 1 and 0 <= limits["high"] <= 1, what
    assert cli.main(["info", "--bundle", str(bundle.folder)], io.StringIO()) == 0, what
    if bundle.info != was.info:
        assert bundle.hash != was.hash or what[0][0] == "git_commit", what


def test_mutants_of_values(written, folder):
    "Each is refused, or changes nothing that decides, or is another decision that another hash tells."
    rng, loaded = random.Random(0), 0
    every = [(p, v) for p in paths(written.info) for v in VALUES]
    needed = [(p, v) for p, v in every if p and p[0] in DECIDES]
    with np.errstate(over="ignore"):
        before = behaviour(written)
        for what in (*needed, *rng.sample(every, 300)):
            (folder / "bundle.json").write_text(json.dumps(changed(written.info, *what)))
            try:
                bundle = load_bundle(folder)
            except BundleError as e:
                assert str(folder / "bundle.json") in str(e) and str(e).count("\n") == 0 and len(str(e)) < 500, what
                continue
            loaded += 1
            is_sane(bundle, written, what)
            assert what[0][0] in CAN_CHANGE or behaviour(bundle) == before, what
    assert 30 < loaded < 400, loaded


def test_flipped_bytes_of_the_json(written, folder):
    rng, raw = random.Random(1), (written.folder / "bundle.json").read_bytes()
    with np.errstate(over="ignore"):
        for _ in range(400):
            data = bytearray(raw)
            at = rng.randrange(len(data))
            data[at] ^= 1 << rng.randrange(8)
            (folder / "bundle.json").write_bytes(data)
            try:
                bundle = load_bundle(folder)
            except BundleError:
                continue
            is_sane(bundle, written, ((at,), bytes(data[at - 20 : at + 20])))


@pytest.mark.parametrize(
    "path, value, words",
    [
        (("calibration", "slope"), float("nan"), "calibration.slope must be a finite number; it is nan"),
        (("calibration", "slope"), 0, "calibration.slope must be a number from 1e-06"),
        (("calibration", "slope"), -1.0, "calibration.slope"),
        (("calibration", "intercept"), float("inf"), "calibration.intercept must be a finite number"),
        (("threshold",), 0, "threshold must be a number above 0 and below 1; it is 0"),
        (("threshold",), True, "threshold must be"),
        (("int8", "threshold"), 1, "int8.threshold must be"),
        (("int8", "calibration", "slope"), float("nan"), "int8.calibration.slope must be a finite number"),
        (("int8", "calibration"), DELETED, "int8.calibration must be an object; it is 'missing'"),
        (("classes",), ["PNEUMONIA", "NORMAL"], 'classes must be ["NORMAL", "PNEUMONIA"]'),
        (("input", "size"), 100, "input.size must be a multiple of 32 from 32 to 1024; it is 100"),
        (("conformal", "low"), 1.2, "conformal.low must be a number from 0 to 1; it is 1.2"),
        (("conformal", "coverage"), 0.5, "conformal.coverage"),
        (("operating", "threshold"), [0.5, 0.4], "operating must be a table"),
        (("operating", "sensitivity", 3), 2, "operating must be a table"),
        (("model_sha256",), "x", "model_sha256 must be a SHA-256"),
        (("parts_sha256", "../../x"), "0" * 64, "parts_sha256.../../x must be one of model.int8.onnx, reference.npz"),
        (("data", "title"), "\x1b[2J", "data.title must be free of control characters"),
        (("known_films",), {"test": "10"}, "known_films.test must be a whole number from 0"),
        (("recipe", "x"), [[[[[[[[[[[[[1]]]]]]]]]]]]], "at most 12 levels deep"),
        (("history", 0, "loss"), 10**30, "history[0].loss must be at most 64 bits"),
    ],
)
def test_a_value_that_is_wrong_is_named(written, folder, path, value, words):
    (folder / "bundle.json").write_text(json.dumps(changed(written.info, path, value)))
    assert words in refused(folder, "Train again, or take another copy")


@pytest.mark.parametrize(
    "text, words",
    [
        ('{"threshold": 1, "threshold": 2}', "duplicate name"),
        ("[" * 100_000, "damaged"),
        ('{"a":' * 100_000, "damaged"),
        ("9" * 10_000, "damaged"),
        (b"\xff\xfe{\0}\0", "damaged"),
        (" " * (4 * 2**20 + 1), "more than"),
        ("", "not JSON"),
        ("NaN", "not written by xraypneu"),
        ("null", "not written by xraypneu"),
    ],
)
def test_json_that_is_none_of_ours(folder, text, words):
    (folder / "bundle.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    refused(folder, words)


# --- the network


def outside(tensor):
    "The tensor's numbers are in another file."
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "weights.bin"), ("offset", "0"), ("length", "4")):
        tensor.external_data.add(key=key, value=value)


def in_initializer(model):
    outside(model.graph.initializer[0])


def in_constant(model):
    node = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.float32([1]), "c"))
    outside(node.attribute[0].t)
    model.graph.node.append(node)


def in_branch(model):
    weight, out = numpy_helper.from_array(np.float32([1]), "w2"), helper.make_tensor_value_info("w2", 1, [1])

    def branch():
        return helper.make_graph([], "branch", [], [out], [weight])

    node = helper.make_node("If", ["yes"], ["y"], then_branch=branch(), else_branch=branch())
    outside(node.attribute[1].g.initializer[0])
    model.graph.node.append(node)


def in_function(model):
    node = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.float32([1]), "c"))
    outside(node.attribute[0].t)
    model.functions.append(helper.make_function("local", "f", [], ["c"], [node], [helper.make_opsetid("", 17)]))


def in_sparse(model):
    values, indices = numpy_helper.from_array(np.float32([1]), "s"), numpy_helper.from_array(np.int64([0]), "i")
    sparse = helper.make_sparse_tensor(values, indices, [4])
    outside(sparse.values)
    model.graph.sparse_initializer.append(sparse)


@pytest.mark.parametrize("name, precision", [("model.onnx", "fp32"), (INT8, "int8")])
@pytest.mark.parametrize("where", [in_initializer, in_constant, in_branch, in_function, in_sparse])
def test_weights_in_another_file(folder, monkeypatch, name, precision, where):
    monkeypatch.chdir(folder)  # where ONNX Runtime looks for them
    np.float32([7]).tofile(folder / "weights.bin")
    put(folder, name, toy(change=where))
    refused(folder, name, "weights are stored in another file", precision=precision)


def test_what_onnx_writes_with_external_data(folder):
    "The real writer of such files."
    model = onnx.load_from_string(toy())
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones(1000, np.float32), "w"))
    onnx.save(model, folder / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    put(folder, "model.onnx", (folder / "model.onnx").read_bytes())
    refused(folder, "weights are stored in another file")


def varint(n) -> bytes:
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes([*out, n])


def field(tag, content) -> bytes:
    "A message in a message of protobuf."
    return varint(tag) + varint(len(content)) + content


GRAPH, INITIALIZER, INPUT = 7 << 3 | 2, 5 << 3 | 2, 11 << 3 | 2


def with_fields(fields, change=lambda model: None) -> bytes:
    "A network with bytes of our own at the end of its graph."
    model = onnx.load_from_string(toy(change=change))
    graph = model.graph.SerializeToString() + fields
    model.ClearField("graph")
    return model.SerializeToString() + field(GRAPH, graph)


def test_weights_in_another_file_behind_a_tag_of_33_bits(folder):
    "ONNX Runtime's protobuf drops what is beyond 32 bits and finds a field there, which this reader would skip."
    tensor = numpy_helper.from_array(np.float32([1]), "w")
    outside(tensor)
    hidden = with_fields(field(INITIALIZER | 1 << 32, tensor.SerializeToString()), lambda m: m.graph.initializer.pop(0))
    put(folder, "model.onnx", hidden)
    refused(folder, "a field's number is too large")


@pytest.mark.parametrize("size", [2**33, 2**62])
def test_a_number_where_a_name_should_be(folder, size):
    "As bytes it would be so many zeros."
    for inner in (field(INPUT, varint(1 << 3) + varint(size)), field(INITIALIZER, varint(8 << 3) + varint(size))):
        put(folder, "model.onnx", with_fields(inner))
        refused(folder, "a name is not text")


def loop_for_ever(model):
    ports = [helper.make_tensor_value_info(name, kind, []) for name, kind in (("i", 7), ("go", 9), ("on", 9))]
    body = helper.make_graph([helper.make_node("Identity", ["go"], ["on"])], "body", ports[:2], ports[2:])
    model.graph.initializer.extend(
        [numpy_helper.from_array(np.int64(2**62), "n"), numpy_helper.from_array(np.bool_(1), "yes")]
    )
    model.graph.node.insert(0, helper.make_node("Loop", ["n", "yes"], [], body=body))


def of_a_huge_shape(model):
    model.graph.initializer.append(numpy_helper.from_array(np.int64([2**40]), "shape"))
    model.graph.node.append(helper.make_node("ConstantOfShape", ["shape"], ["huge"]))


def from_elsewhere(model):
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    model.graph.node.append(helper.make_node("Add", ["w", "b"], ["y"], domain="com.microsoft"))


def of_its_own(model):
    node = helper.make_node("Identity", ["a"], ["b"])
    model.functions.append(helper.make_function("", "Add", ["a"], ["b"], [node], [helper.make_opsetid("", 17)]))


@pytest.mark.parametrize(
    "change, words",
    [
        (loop_for_ever, "'Loop'"),
        (of_a_huge_shape, "'ConstantOfShape'"),
        (from_elsewhere, "'com.microsoft.Add'"),
        (of_its_own, "functions of its own"),
    ],
)
@pytest.mark.parametrize("name, precision", [("model.onnx", "fp32"), (INT8, "int8")])
def test_operators_that_no_network_of_ours_has(folder, change, words, name, precision):
    put(folder, name, toy(change=change))
    refused(folder, name, words, precision=precision)


def test_a_network_that_onnx_runtime_would_take_for_another_format(folder):
    "Protobuf to us, by its fifth to eighth byte a file of ONNX Runtime's own format to it."
    put(folder, "model.onnx", field(15 << 3 | 2, b"..ORTM" + bytes(4)) + toy())
    refused(folder, "it is not an ONNX file")


def of_other_sides(model):
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 64


@pytest.mark.parametrize(
    "model, words",
    [
        (toy(name="picture"), "it needs the unknown input 'picture'"),
        (toy(kind=TensorProto.FLOAT), "image is float32, not uint8"),
        (toy(features=["n"]), "features has 1 dimensions, not 2"),
        (toy(features=[1, 32]), "features accepts only batches of 1"),
        (toy(features=["n", 31]), "it was fitted on 32 features, but the network has 31"),
        (toy(change=lambda m: m.graph.output.pop()), "it has no features"),
        (toy(change=of_other_sides), "image has the sides"),
        (b"", "it has no image"),
        (b"not a network", "can't be used"),
        (toy()[:-20], "can't be used"),
    ],
)
def test_another_network(folder, model, words):
    put(folder, "model.onnx", model)
    refused(folder, words)


def test_a_network_that_computes_no_numbers(folder):
    put(folder, "model.onnx", toy(weight=float("nan")))
    with pytest.raises(BundleError, match="logit is not finite"):
        load_bundle(folder).logits(IMAGES)


def test_flipped_bytes_of_the_network(folder):
    "With its hash made right: refused, or it computes numbers."
    rng, raw, refusals = random.Random(2), toy(), 0
    for _ in range(250):
        data = bytearray(raw)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        put(folder, "model.onnx", bytes(data))
        try:
            assert np.isfinite(load_bundle(folder).logits(IMAGES)).all()
        except BundleError:
            refusals += 1
    assert refusals > 50


def test_what_was_hashed_is_what_is_loaded(folder):
    "Another network in the same place after the check is not used."
    bundle = load_bundle(folder)
    (folder / "model.onnx").write_bytes(toy(3))
    assert np.allclose(bundle.logits(IMAGES), IMAGES.mean((1, 2)) - 100, atol=1e-3)
    refused(folder, "model.onnx is damaged: its hash")


# --- what training images look like


@pytest.mark.parametrize(
    "data, words",
    [
        (reference(weights=np.full(32, np.nan, np.float32)), "weights holds a number that is not finite"),
        (reference(variances=np.float32([1, 0])), "variances are not all above 0"),
        (reference(variances=np.ones(3, np.float32)), "variances has shape (3,)"),
        (reference(scaling=np.ones((2, 2), np.float32)), "limit that is not above the median"),
        (reference(no_chest=np.float32([0.99])), "no_chest is below 1"),
        (reference(no_chest=np.float32([np.inf])), "no_chest holds a number that is not finite"),
        (reference(no_chest=np.ones(2, np.float32)), "no_chest has shape"),
        (reference(weights=np.array([print] * 32, object)), "weights is not an array of floats"),
        (reference(means=np.ones((2, 32), np.int64)), "means is not an array of floats"),
        (reference(31), "fitted on 31 features, but the network has 32"),
        (b"", "BadZipFile"),
        (reference()[:-100], "BadZipFile"),
    ],
)
def test_another_reference(folder, data, words):
    put(folder, REFERENCE, data)
    refused(folder, REFERENCE, words)


def test_a_reference_that_unpacks_to_much(folder):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (2, 10**9)})
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as z:
        for name in OODDetector.__dataclass_fields__:
            z.writestr(f"{name}.npy", header.getvalue() + bytes(20_000_000))
    put(folder, REFERENCE, file.getvalue())
    tracemalloc.start()
    try:
        refused(folder, "8,000,000,000 bytes, more than")
        assert tracemalloc.get_traced_memory()[1] < 30e6
    finally:
        tracemalloc.stop()


def test_flipped_bytes_of_the_reference(folder):
    rng, raw = random.Random(3), reference()
    features = np.abs(np.random.default_rng(0).normal(0, 3, (20, 32))).astype(np.float32)
    for _ in range(300):
        data = bytearray(raw)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        put(folder, REFERENCE, bytes(data))
        try:
            assert np.isfinite(load_bundle(folder).detector.score(features)).all()
        except BundleError:
            continue


@pytest.mark.parametrize(
    "content, words",
    [
        (lambda m: {**m, "model": {"hash": "0" * 64}}, "about another model"),
        (lambda m: {**m, "test": {}}, "can't be read"),
        (lambda m: {**m, "test": {**m["test"], "accuracy": "0.99"}}, "can't be read"),
        (lambda m: [], "can't be read"),
        (lambda m: {**m, "more": "x" * 3_000_000}, "can't be read"),
    ],
)
def test_metrics_of_another_model_are_not_shown_as_this_ones(tmp_path, content, words):
    "metrics.json lies beside the bundle, and none of its hashes covers it."
    folder, out = shutil.copytree(SHIPPED, tmp_path / "bundle"), io.StringIO()
    assert cli.main(["info", "--bundle", str(folder)], out) == 0 and "accuracy" in out.getvalue()
    file, out = folder / "metrics.json", io.StringIO()
    file.write_text(json.dumps(content(json.loads(file.read_text()))))
    assert cli.main(["info", "--bundle", str(folder)], out) == 0
    assert words in out.getvalue() and "accuracy" not in out.getvalue()


def test_info_finds_the_metrics_of_the_project_and_says_their_cautions(tmp_path):
    "`xraypneu info --bundle models/bundle` showed no metric, and said nothing."
    folder, out = shutil.copytree(SHIPPED, tmp_path / "models/bundle"), io.StringIO()
    metrics = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").unlink()
    assert cli.main(["info", "--bundle", str(folder)], out) == 0
    assert "No test metrics: none lie beside it" in out.getvalue()
    (tmp_path / "reports").mkdir()
    metrics["data"] |= {"few_patients": {"NORMAL": 12}}
    (tmp_path / "reports/metrics.json").write_text(json.dumps(metrics))
    assert cli.main(["info", "--bundle", str(folder)], out) == 0
    assert "accuracy" in out.getvalue() and "Few patients: 12 with NORMAL" in out.getvalue()


def test_a_metric_that_cannot_be_said_hides_no_other(tmp_path):
    "Of a test split without a film called PNEUMONIA, the precision is null; then none of the metrics was shown."
    folder, out = shutil.copytree(SHIPPED, tmp_path / "bundle"), io.StringIO()
    m = json.loads((folder / "metrics.json").read_text())
    for part in ("test", "test_low", "test_high"):
        m[part]["precision"] = None
    m["test_low"]["accuracy"] = None  # a perfect metric has no interval
    (folder / "metrics.json").write_text(json.dumps(m))
    assert cli.main(["info", "--bundle", str(folder)], out) == 0
    assert "accuracy" in out.getvalue() and "ROC AUC" in out.getvalue() and "precision (PPV)" not in out.getvalue()


def test_info_of_a_registered_bundle(monkeypatch):
    "An MLflow address is no folder."
    monkeypatch.setattr("xraypneu.ops.tracking.registered_bundle", lambda uri: SHIPPED)
    out = io.StringIO()
    assert cli.main(["info", "--bundle", "models:/xraypneu@champion"], out) == 0
    assert load_bundle().hash in out.getvalue()


@pytest.mark.parametrize("command, module, extra", [("promote", "pandas", "pipeline"), ("remote", "dvc", "team")])
def test_a_command_of_the_light_install_names_what_it_lacks(tmp_path, monkeypatch, capsys, command, module, extra):
    (tmp_path / ".dvc").mkdir()
    monkeypatch.chdir(tmp_path)
    for name in [n for n in sys.modules if n == "xraypneu.ops.registry" or n.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    assert cli.main([command], io.StringIO()) == 2
    said = capsys.readouterr().err
    assert module in said and f"pip install '.[{extra}]'" in said
