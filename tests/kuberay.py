"""The parts of KubeRay's RayJob (ray.io/v1, as of 1.7) that our manifests use, as a JSON schema that knows no others.

Kubernetes drops fields that it does not know, so a typing error would be applied in silence. Fields of pods are those
that are used here; fields of KubeRay are all there are at their level, so that one may be added without a change here.
"""

from typing import Any

Schema = dict[str, Any]
TEXT: Schema = {"type": "string", "minLength": 1}
COUNT: Schema = {"type": "integer", "minimum": 0}
POSITIVE: Schema = {"type": "integer", "minimum": 1}
SHARE: Schema = {"type": "number", "minimum": 0}
FLAG: Schema = {"type": "boolean"}
TEXTS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
ANY: Schema = {}


def closed(required: str = "", **fields: Schema) -> Schema:
    """An object of these fields alone."""
    return {"type": "object", "properties": fields, "required": required.split(), "additionalProperties": False}


def listed(item: Schema) -> Schema:
    return {"type": "array", "items": item, "minItems": 1}


def one_of(*words: str) -> Schema:
    return {"enum": [*words]}


_QUANTITY: Schema = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(m|[kMGTPE]i?)?$"}
_QUANTITIES: Schema = {
    "type": "object",
    "properties": dict.fromkeys(("cpu", "memory", "ephemeral-storage", "nvidia.com/gpu"), _QUANTITY),
    "additionalProperties": False,
}
_ENV = closed(
    "name",
    name=TEXT,
    value={"type": "string"},
    valueFrom=closed(secretKeyRef=closed("name key", name=TEXT, key=TEXT)),
)
_SECURITY = closed(
    **dict.fromkeys(("runAsNonRoot",), FLAG), **dict.fromkeys(("runAsUser", "runAsGroup", "fsGroup"), COUNT)
)
_CONTAINER = closed(
    "name image resources",
    name=TEXT,
    image=TEXT,
    env=listed(_ENV),
    ports=listed(closed("containerPort", containerPort={"type": "integer"}, name={**TEXT, "maxLength": 15})),
    resources=closed("requests limits", requests=_QUANTITIES, limits=_QUANTITIES),
    volumeMounts=listed(closed("name mountPath", name=TEXT, mountPath=TEXT, readOnly=FLAG)),
)
_POD = closed(
    "containers",
    containers=listed(_CONTAINER),
    volumes=listed(closed("name", name=TEXT, persistentVolumeClaim=closed("claimName", claimName=TEXT))),
    automountServiceAccountToken=FLAG,
    serviceAccountName=TEXT,
    nodeSelector=TEXTS,
    securityContext=_SECURITY,
    tolerations=listed(closed(key=TEXT, operator=one_of("Exists", "Equal"), value=TEXT, effect=TEXT)),
)
_TEMPLATE = closed("spec", metadata=closed(labels=TEXTS, annotations=TEXTS), spec=_POD)
_HEAD = closed(
    "template",
    template=_TEMPLATE,
    rayStartParams=TEXTS,
    labels=TEXTS,
    resources=TEXTS,
    serviceType=TEXT,
    headService=ANY,
    enableIngress=FLAG,
    ingressOptions=ANY,
)
_WORKERS = closed(
    "groupName minReplicas maxReplicas template",
    groupName=TEXT,
    template=_TEMPLATE,
    rayStartParams=TEXTS,
    labels=TEXTS,
    resources=TEXTS,
    scaleStrategy=ANY,
    suspend=FLAG,
    **dict.fromkeys(("replicas", "minReplicas", "maxReplicas", "numOfHosts", "idleTimeoutSeconds", "priority"), COUNT),
)
_CLUSTER = closed(
    "headGroupSpec rayVersion",
    headGroupSpec=_HEAD,
    workerGroupSpecs=listed(_WORKERS),
    rayVersion=TEXT,
    authOptions=closed(mode=one_of("disabled", "token"), secretName=TEXT, enableK8sTokenAuth=FLAG),
    enableInTreeAutoscaling=FLAG,
    autoscalerOptions=closed(
        version=one_of("v1", "v2"),
        idleTimeoutSeconds=COUNT,
        upscalingMode=one_of("Default", "Aggressive", "Conservative"),
        **dict.fromkeys(("image", "imagePullPolicy"), TEXT),
        **dict.fromkeys(("args", "command", "env", "envFrom", "resources", "securityContext", "volumeMounts"), ANY),
    ),
    headServiceAnnotations=TEXTS,
    suspend=FLAG,
    managedBy=TEXT,
    **dict.fromkeys(
        ("gcsFaultToleranceOptions", "historyServerOptions", "networkPolicy", "tlsOptions", "upgradeStrategy"), ANY
    ),
)
_JOB = closed(
    "entrypoint rayClusterSpec",
    entrypoint=TEXT,
    rayClusterSpec=_CLUSTER,
    submissionMode=one_of("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"),
    **dict.fromkeys(("shutdownAfterJobFinishes", "suspend"), FLAG),
    **dict.fromkeys(("ttlSecondsAfterFinished", "backoffLimit"), COUNT),
    **dict.fromkeys(("activeDeadlineSeconds", "preRunningDeadlineSeconds"), POSITIVE),
    **dict.fromkeys(("entrypointNumCpus", "entrypointNumGpus"), SHARE),
    **dict.fromkeys(("entrypointResources", "runtimeEnvYAML", "jobId", "managedBy"), TEXT),
    **dict.fromkeys(("clusterSelector", "metadata"), TEXTS),
    **dict.fromkeys(("deletionStrategy", "submitterConfig", "submitterPodTemplate"), ANY),
)
RAYJOB = closed(
    "apiVersion kind metadata spec",
    apiVersion=one_of("ray.io/v1"),
    kind=one_of("RayJob"),
    metadata=closed(name=TEXT, generateName=TEXT, namespace=TEXT, labels=TEXTS, annotations=TEXTS),
    spec=_JOB,
)
