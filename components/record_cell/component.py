from kfp import dsl
from kfp.dsl import Dataset, Input

from components.catalogue import local_image


@dsl.component(base_image=local_image("record_cell"), install_kfp_package=False)
def record_cell(results: Input[Dataset], study: str, key: str, code_version: str) -> None:
    """Leave a finished cell's report in the run store, where the study's report finds it also when other cells fail.

    Args:
        results: from report.
        study: the study's key.
        key: the cell's key.
        code_version: hash of this stage's source, part of the cache key.
    """
    from components.record_cell.run import run

    run(results.path, study, key)
