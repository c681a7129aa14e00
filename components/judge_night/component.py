from kfp import dsl
from kfp.dsl import Dataset, Input

from components.catalogue import local_image


@dsl.component(base_image=local_image("judge_night"), install_kfp_package=False)
def judge_night(night: Input[Dataset], code_version: str) -> None:
    """Fail if a night is worse than earlier ones; a separate task, since KFP keeps no output of a failed one.

    Args:
        night: figures and findings of the night, from record_night.
        code_version: hash of this stage's source, part of the cache key.
    """
    from components.judge_night.run import run

    run(night.path)
