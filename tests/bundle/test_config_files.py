"""Which files of a bundle are configs, and where its trainings write."""

from __future__ import annotations

from pathlib import Path

from pipeline.bundle.config_files import find_output, list_configs
from pipeline.commands.cli import main


def test_a_manifest_in_a_bundle_is_no_config(tmp_path: Path, repository: Path) -> None:
    for name in ("train.json", "manifest.json", "metadata.json"):
        (tmp_path / name).write_text("{}")
    assert [path.name for path in list_configs(tmp_path)] == ["metadata.json", "train.json"]
    bundle = repository / "bundles/lgg_unet"
    before = (bundle / "configs/manifest.json").read_bytes()
    assert main(["bundle", "format", "--check", str(bundle)]) == 0, "it keeps the format of manifests"
    assert (bundle / "configs/manifest.json").read_bytes() == before


def test_an_expression_for_the_output_is_not_run() -> None:
    bundle = Path("bundles/cells")
    for text in ("$__import__('os').remove('x')", "@other", "%train.json::output_dir", "", None, 3):
        assert find_output(bundle, {"output_dir": text}) == Path("output/cells")
    assert find_output(bundle, {"output_dir": "runs/cells"}) == Path("runs/cells")
