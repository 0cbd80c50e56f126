"""Which right each method needs, in one table."""

from __future__ import annotations

from collections.abc import Mapping

from gearshift.core.rights import Group

_OIP = "/inference.GRPCInferenceService"
_OURS = "/gearshift.v1.Gearshift"

GROUPS: Mapping[str, Group] = {
    "/grpc.health.v1.Health/Check": Group.OPEN,
    "/grpc.health.v1.Health/Watch": Group.OPEN,
    f"{_OIP}/ServerLive": Group.OPEN,
    f"{_OIP}/ServerReady": Group.OPEN,
    f"{_OIP}/ModelReady": Group.OPEN,
    f"{_OIP}/ModelInfer": Group.INFER,
    f"{_OIP}/ModelStreamInfer": Group.INFER,
    f"{_OURS}/Feedback": Group.FEEDBACK,
    f"{_OURS}/StreamFeedback": Group.FEEDBACK,
    f"{_OIP}/ServerMetadata": Group.OBSERVE,
    f"{_OIP}/ModelMetadata": Group.OBSERVE,
    f"{_OIP}/ModelConfig": Group.OBSERVE,
    f"{_OIP}/ModelStatistics": Group.OBSERVE,
    f"{_OIP}/RepositoryIndex": Group.OBSERVE,
    f"{_OURS}/Explain": Group.OBSERVE,
    f"{_OURS}/WatchFrontier": Group.OBSERVE,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Group.OBSERVE,
    f"{_OIP}/RepositoryModelLoad": Group.CONTROL,
    f"{_OIP}/RepositoryModelUnload": Group.CONTROL,
    f"{_OIP}/SystemSharedMemoryRegister": Group.CONTROL,
    f"{_OIP}/SystemSharedMemoryUnregister": Group.CONTROL,
    f"{_OIP}/SystemSharedMemoryStatus": Group.CONTROL,
    f"{_OIP}/CudaSharedMemoryRegister": Group.CONTROL,
    f"{_OIP}/CudaSharedMemoryUnregister": Group.CONTROL,
    f"{_OIP}/CudaSharedMemoryStatus": Group.CONTROL,
    f"{_OIP}/TraceSetting": Group.CONTROL,
    f"{_OIP}/LogSettings": Group.CONTROL,
}
"""By the path of the method. Health is open: probes have no credentials."""


def group_of(path: str) -> Group:
    """The rarest right for a method that was added without a place in the table."""
    return GROUPS.get(path, Group.CONTROL)
