"""tritonclient, as published, against our server; and the standard library's HTTP client for the rest."""

import http.client
import json
import signal
import subprocess
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import fluxion as fx

triton = pytest.importorskip("tritonclient.http")
np_to_triton_dtype = pytest.importorskip("tritonclient.utils").np_to_triton_dtype

PROGRAM = Path(__file__).parents[2] / "build/release/bin/serve_test_server"
MODELS = {
    "echo": {1: "identity INPUT0:f32:-1,-1"},
    "mixed": {1: "identity INPUT0:i32:-1,2 INPUT1:f16:-1,2 INPUT2:bool:-1 INPUT3:bf16:-1"},
    "pair": {1: "add_sub"},
    "scale": {1: "scale 2", 3: "scale 3"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    for name, versions in MODELS.items():
        for version, text in versions.items():
            write(root, name, version, text)
    return root


def write(root, name, version, text):
    path = root / name / str(version)
    path.mkdir(parents=True, exist_ok=True)
    (path / "model.fluxion").write_text(text)


@pytest.fixture(scope="module")
def port(folder):
    server = subprocess.Popen(
        [PROGRAM, folder], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    yield int(server.stdout.readline())
    server.send_signal(signal.SIGTERM)
    log = server.communicate(timeout=20)[1]
    assert server.returncode == 0
    assert '"POST /v2/models/pair/infer" 200 ' in log


@pytest.fixture
def client(port):
    with triton.InferenceServerClient(f"127.0.0.1:{port}") as c:
        yield c


def given(name, array, *, binary=True):
    tensor = triton.InferInput(name, array.shape, np_to_triton_dtype(array.dtype))
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def test_health_and_metadata(client):
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("pair") and not client.is_model_ready("none")
    assert client.is_model_ready("scale", "1") and not client.is_model_ready("scale", "2")
    assert client.get_server_metadata()["name"] == "fluxion"
    metadata = client.get_model_metadata("scale")
    assert metadata["versions"] == ["1", "3"]
    assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    config = client.get_model_config("pair")
    assert config["max_batch_size"] == 0
    assert [o["name"] for o in config["output"]] == ["OUTPUT0", "OUTPUT1"]


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_infer_has_eager_bits(client, rng, binary_in, binary_out):
    a = rng.standard_normal((5, 4), dtype=np.float32)
    b = rng.standard_normal((5, 4), dtype=np.float32)
    outputs = [triton.InferRequestedOutput(f"OUTPUT{i}", binary_data=binary_out) for i in (1, 0)]
    result = client.infer(
        "pair",
        [given("INPUT0", a, binary=binary_in), given("INPUT1", b, binary=binary_in)],
        outputs=outputs,
        request_id="7",
    )
    assert result.get_response()["id"] == "7"
    x, y = fx.tensor(a), fx.tensor(b)
    for name, want in (("OUTPUT0", x + y), ("OUTPUT1", x - y)):
        assert result.as_numpy(name).tobytes() == want.numpy().tobytes()


def test_all_outputs_when_none_are_named(client):
    a = np.array([[1, np.nan, np.inf, -np.inf]], np.float32)
    result = client.infer("echo", [given("INPUT0", a)])
    assert result.as_numpy("OUTPUT0").tobytes() == a.tobytes()


def test_other_dtypes(client):
    arrays = {
        "INPUT0": np.array([[1, -2]], np.int32),
        "INPUT1": np.array([[1.5, -65504]], np.float16),
        "INPUT2": np.array([True, False, True]),
        "INPUT3": np.array([1.5, -2], ml_dtypes.bfloat16),
    }
    result = client.infer("mixed", [given(n, a) for n, a in arrays.items()])
    for i, a in enumerate(arrays.values()):
        np.testing.assert_array_equal(result.as_numpy(f"OUTPUT{i}"), a)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compression(client, algorithm):
    a = np.ones((100, 100), np.float32)
    result = client.infer(
        "echo",
        [given("INPUT0", a)],
        request_compression_algorithm=algorithm,
        response_compression_algorithm=algorithm,
    )
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), a)


def test_many_at_once(port):
    with triton.InferenceServerClient(f"127.0.0.1:{port}", concurrency=8) as client:
        arrays = [np.full((1, 4), i, np.float32) for i in range(64)]
        running = [client.async_infer("scale", [given("x", a)]) for a in arrays]
        for a, r in zip(arrays, running, strict=True):
            np.testing.assert_array_equal(r.get_result().as_numpy("y"), a * 3)


def test_errors_reach_the_user(client):
    a = np.ones((1, 4), np.float32)
    with pytest.raises(triton.InferenceServerException, match="unknown model: 'none'") as caught:
        client.infer("none", [given("x", a)])
    assert caught.value.status() == "404"
    with pytest.raises(triton.InferenceServerException, match=r"Expected \[-1,4\], got \[4\]"):
        client.infer("scale", [given("x", a[0])])
    with pytest.raises(triton.InferenceServerException, match="expects 'FP32'"):
        client.infer("scale", [given("x", a.astype(np.int64))])
    text = triton.InferInput("x", [1, 4], "BYTES")
    text.set_data_from_numpy(np.array([[b"a", b"b", b"c", b"d"]], object))
    with pytest.raises(triton.InferenceServerException, match="'BYTES'"):
        client.infer("scale", [text])


def test_repository(client, folder):
    states = {(m["name"], m["version"]): m["state"] for m in client.get_model_repository_index()}
    assert states[("scale", "3")] == "READY"
    write(folder, "late", 1, "scale 10")
    assert not client.is_model_ready("late")
    client.load_model("late")
    a = np.ones((1, 4), np.float32)
    np.testing.assert_array_equal(client.infer("late", [given("x", a)]).as_numpy("y"), a * 10)
    client.unload_model("late")
    assert not client.is_model_ready("late")
    client.load_model("late")
    assert client.is_model_ready("late")
    with pytest.raises(triton.InferenceServerException, match="failed to poll"):
        client.load_model("none")
    write(folder, "bad", 1, "broken by us")
    with pytest.raises(triton.InferenceServerException, match="broken"):
        client.load_model("bad")


def test_statistics(client):
    a = np.ones((1, 4), np.float32)

    def counts():
        (stats,) = client.get_inference_statistics("scale", "1")["model_stats"]
        return {k: (v["count"], v["ns"]) for k, v in stats["inference_stats"].items()}

    before = counts()
    assert list(before) == [
        "success", "fail", "queue", "compute_input", "compute_infer", "compute_output",
        "cache_hit", "cache_miss",
    ]  # fmt: skip
    client.infer("scale", [given("x", a)], model_version="1")
    after = counts()
    for key in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
        assert after[key][0] == before[key][0] + 1
    assert after["success"][1] > before["success"][1]


def test_tensorflow_serving_form(port):
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request(
        "POST", "/v1/models/scale/versions/1:predict", json.dumps({"instances": [[1, 2, 3, 4]]})
    )
    answer = connection.getresponse()
    assert answer.status == 200
    assert json.load(answer) == {"predictions": [[2.0, 4.0, 6.0, 8.0]]}
