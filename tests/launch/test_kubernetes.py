"""The manifest of launch/kubernetes.sh: what JobSet and Job ask of one another."""

import pytest

from amlr_jax.runtime import cluster
from amlr_jax.runtime import signals as interrupt
from tests.launch.scripts import MAIN, executable, run

yaml = pytest.importorskip("yaml")

OPTIONS = ["--name=kitti-large", "--image=registry.example.org:5000/amlr_jax:1"]
OPTIONS += ["--hosts=4", "--gpus=8", *MAIN, "--workdir=/runs/kitti"]
ODD = '--config.data.list=a "b" & \\c $d'


@pytest.fixture(scope="module")
def manifest() -> dict:
    done = run("kubernetes.sh", "--dry_run", *OPTIONS, ODD)
    assert done.returncode == 0, done.stderr
    assert "${" not in done.stdout
    return yaml.safe_load(done.stdout)


@pytest.fixture(scope="module")
def job(manifest) -> dict:
    (replicated,) = manifest["spec"]["replicatedJobs"]
    assert replicated["name"] == "host"
    assert replicated["replicas"] == 1
    return replicated["template"]["spec"]


@pytest.fixture(scope="module")
def pod(job) -> dict:
    return job["template"]["spec"]


def test_kind(manifest):
    assert manifest["apiVersion"] == "jobset.x-k8s.io/v1alpha2"
    assert manifest["kind"] == "JobSet"
    assert manifest["metadata"]["name"] == "kitti-large"


def test_a_pod_a_host(job):
    assert job["completionMode"] == "Indexed"
    assert job["parallelism"] == job["completions"] == 4
    assert job["backoffLimit"] == 0


def test_processes_find_each_other(manifest, pod, monkeypatch):
    """<jobset>-<replicated job>-<job>-<pod>.<subdomain>, as JobSet names its pods."""
    network = manifest["spec"]["network"]
    assert network["enableDNSHostnames"] is True
    found = {one["name"]: one for one in pod["containers"][0]["env"]}
    address = f"kitti-large-host-0-0.{network['subdomain']}:55527"
    assert found[cluster.ADDRESS]["value"] == address
    path = found[cluster.ID]["valueFrom"]["fieldRef"]["fieldPath"]
    assert path == "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    monkeypatch.setenv(cluster.ADDRESS, address)
    monkeypatch.setenv(cluster.COUNT, found[cluster.COUNT]["value"])
    monkeypatch.setenv(cluster.ID, "3")
    assert cluster.from_environment() == cluster.Place(4, 3, address)


def test_a_preemption_is_no_failure(manifest, job, pod):
    """podFailurePolicy needs pods that do not restart; FailJob gives its reason."""
    assert pod["restartPolicy"] == "Never"
    by_status, by_condition = job["podFailurePolicy"]["rules"]
    assert by_status["action"] == by_condition["action"] == "FailJob"
    assert by_status["onExitCodes"] == {
        "containerName": pod["containers"][0]["name"],
        "operator": "In",
        "values": [interrupt.REQUEUE],
    }
    assert by_condition["onPodConditions"] == [
        {"type": "DisruptionTarget", "status": "True"}
    ]
    policy = manifest["spec"]["failurePolicy"]
    assert policy["maxRestarts"] >= 1
    (rule,) = policy["rules"]
    assert rule["action"] == "RestartJobSetAndIgnoreMaxRestarts"
    assert rule["onJobFailureReasons"] == ["PodFailurePolicy"]
    assert rule["name"]


def test_options_arrive_as_they_are(pod):
    container = pod["containers"][0]
    assert container["command"] == ["python", "-m", "amlr_jax.main"]
    assert container["args"] == [*MAIN, "--workdir=/runs/kitti", ODD]
    assert container["image"] == "registry.example.org:5000/amlr_jax:1"


def test_what_a_pod_has(pod):
    container = pod["containers"][0]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": 8}
    mounts = {m["mountPath"]: m["name"] for m in container["volumeMounts"]}
    volumes = {v["name"]: v for v in pod["volumes"]}
    assert set(mounts.values()) == set(volumes)
    assert volumes[mounts["/dev/shm"]]["emptyDir"]["medium"] == "Memory"
    assert volumes[mounts["/data"]]["persistentVolumeClaim"]["claimName"] == "data"
    assert volumes[mounts["/runs"]]["persistentVolumeClaim"]["claimName"] == "runs"


def test_applied_by_kubectl(tmp_path):
    executable(tmp_path / "kubectl", 'echo "$@"; cat')
    path = f"{tmp_path}:/usr/local/bin:/usr/bin:/bin"
    done = run("kubernetes.sh", *OPTIONS, PATH=path)
    first, *rest = done.stdout.splitlines()
    assert first == "apply -f -"
    dry = run("kubernetes.sh", "--dry_run", *OPTIONS).stdout.splitlines()
    assert rest == dry
