"""The commands, as `invoke` finds them."""

from images.commands.deploy import deploy, manifests, undeploy
from images.commands.make import build, extract, recommend, targets
from images.commands.project import benchmark, check, clean, lock, render, setup, test
from images.commands.ship import inspect, pull, push, verify
from images.commands.use import bench, run, smoke

__all__ = [
    "bench",
    "benchmark",
    "build",
    "check",
    "clean",
    "deploy",
    "extract",
    "inspect",
    "lock",
    "manifests",
    "pull",
    "push",
    "recommend",
    "render",
    "run",
    "setup",
    "smoke",
    "targets",
    "test",
    "undeploy",
    "verify",
]
