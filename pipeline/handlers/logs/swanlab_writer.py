"""Let SwanLab record what TensorBoard gets, without the network."""

import os
from pathlib import Path
from typing import Any

from pipeline.issues import InputError
from pipeline.parallel.launch import is_main
from pipeline.parallel.writer import open_summary_writer

_EXTRA = "pip install 'monai-segmentation-suite[swanlab]'"


def open_swanlab_writer(log_dir: str, project: str = "segmentation") -> Any:
    """Open TensorBoard's writer, in ``log_dir``, and a SwanLab run that gets the same, in ``log_dir/swanlab``.

    The run is offline: ``swanlab sync FOLDER`` uploads it later, if at all. Only the environment, never a config, can
    choose otherwise: ``SWANLAB_MODE=online`` (or ``local``). Names of the host and the user, and the address of the git
    repository, are not recorded. SwanLab's own ``sync_tensorboard_torch`` is not used, because it changes TensorBoard's
    class for the whole process: the next training without SwanLab would be uploaded.

    Args:
        log_dir: folder of the run.
        project: name of SwanLab's project.

    Returns:
        A writer; of several processes, all but the first get one that does nothing.

    Raises:
        InputError: SwanLab is not installed.
    """
    if not is_main():
        return open_summary_writer(log_dir)
    try:
        import swanlab
    except ImportError as error:
        raise InputError(f"SwanLab cannot be imported ({error}): {_EXTRA}, or leave out swanlab.json") from None
    settings = swanlab.Settings(
        interactive=False,
        terminal=swanlab.Settings.Terminal(proxy_type="none"),
        probe=swanlab.Settings.Probe(runtime=False, git=False),
    )
    folder = Path(log_dir) / "swanlab"
    folder.mkdir(parents=True, exist_ok=True)
    mode: Any = os.environ.get("SWANLAB_MODE", "offline")
    run = swanlab.init(mode=mode, log_dir=str(folder), project=project, settings=settings, reinit=True)
    return SwanLabWriter(open_summary_writer(log_dir), run)


class SwanLabWriter:
    """TensorBoard's writer, whose scalars and images SwanLab gets too.

    Args:
        writer: TensorBoard's.
        run: SwanLab's.
    """

    def __init__(self, writer: Any, run: Any) -> None:
        self._writer, self._run = writer, run

    def add_scalar(self, tag: str, scalar_value: Any, global_step: int | None = None, *args: Any) -> None:
        """Write a number."""
        self._run.log({tag: float(scalar_value)}, step=global_step)
        self._writer.add_scalar(tag, scalar_value, global_step, *args)

    def add_image(
        self, tag: str, img_tensor: Any, global_step: int | None = None, walltime: Any = None, dataformats: str = "CHW"
    ) -> None:
        """Write an image whose axes are ``dataformats``, as ``(H, W, 3)`` if that is ``HWC``."""
        import swanlab

        pixels = img_tensor.transpose(1, 2, 0) if dataformats == "CHW" else img_tensor
        self._run.log({tag: swanlab.Image(pixels)}, step=global_step)
        self._writer.add_image(tag, img_tensor, global_step, walltime, dataformats)

    def close(self) -> None:
        """Write what is left, and end the run of SwanLab."""
        self._writer.close()
        if self._run.alive:
            self._run.finish()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)
