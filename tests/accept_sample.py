"""What `make run` promises of the sample. Run after it, by `make check-sample`; not part of the test suite."""

import json
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_sample_auc():
    metrics = json.loads((ROOT / "reports/metrics.json").read_text())
    assert metrics["data"]["synthetic"], "the last run was not on the sample: make run DATA=data/sample"
    assert metrics["test"]["roc_auc"] >= 0.95


def test_bundle_is_small():
    files = (ROOT / "models/bundle").iterdir()
    assert sum(p.stat().st_size for p in files) < 9e6
