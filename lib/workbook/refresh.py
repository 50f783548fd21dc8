"""Run notebooks and store their outputs."""

import json
import os
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellControlSignal, CellExecutionError, DeadKernelError
from nbclient.output_widget import OutputWidget

from lib.errors import WorkbookError
from lib.workbook.reset import write_atomically

CELL_TIMEOUT_SECONDS = 300
KERNEL = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
WIDGET = "application/vnd.jupyter.widget-view+json"


class _QuietOutput(OutputWidget):
    """What stands for the part of a widget that shows a function's outputs, such as that of `interact`.

    nbclient's own sends each output back to the kernel, on the socket on which it waits for the kernel's reply to the
    cell. A reply that comes in just then wakes nobody, and the cell seems to run until its time is up. Nobody asks for
    what is sent back, so nothing is.
    """

    def sync_state(self) -> None:
        """Send nothing."""


def execute(notebook: nbformat.NotebookNode, folder: Path, **environment: str) -> None:
    """Run all cells of a notebook in a new kernel, and keep in it what they show, without what differs each time.

    environment: variables that the kernel gets beside our own.
    Errors: those of nbclient, at the first cell that fails.
    """
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=CELL_TIMEOUT_SECONDS,
        resources={"metadata": {"path": str(folder.absolute())}},
        record_timing=False,
        extra_arguments=["--IPKernelApp.log_level=40"],  # it warns of its transport at each start
        coalesce_streams=True,  # how many pieces a text comes in depends on the machine's load
    )
    client.widget_registry = {"@jupyter-widgets/output": {"OutputModel": _QuietOutput}}
    client.execute(env={**os.environ, **environment})
    clean(notebook)


def clean(notebook: nbformat.NotebookNode) -> None:
    """Take out what differs from run to run, so that a refresh without a change leaves no difference."""
    notebook["metadata"] = json.loads(json.dumps(KERNEL))
    for cell in notebook["cells"]:
        cell["metadata"].pop("execution", None)
        if "predict" in cell["metadata"].get("tags", ()):  # JupyterLab unfolds the output when the cell is run
            cell["metadata"]["jupyter"] = {"outputs_hidden": True}
        for output in cell.get("outputs", ()):
            # A widget's number is random, and names a live object that no reader of the file has.
            output.get("data", {}).pop(WIDGET, None)


def refresh(path: Path) -> None:
    """Execute a notebook in place, in its own folder; it is written only when all its cells ran.

    Errors: WorkbookError, if it can't be read, or if a cell fails.
    """
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except Exception as error:  # nbformat says the same thing with many types of error
        raise WorkbookError(f"{path} is no notebook that can be read: {str(error).splitlines()[0]}") from None
    try:
        execute(notebook, path.parent)
    except (CellControlSignal, DeadKernelError) as error:
        cause = f" with {error.ename}: {error.evalue}" if isinstance(error, CellExecutionError) else ""
        raise WorkbookError(f"{path} was left as it was, because a cell failed{cause}\n{error}") from None
    write_atomically(path, f"{nbformat.writes(notebook).rstrip()}\n".encode())
