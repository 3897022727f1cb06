"""`transformers serve` for one model, each answer sampled as its own request says. A program: the engine's process.

With continuous batching, `transformers serve` samples all answers as the first request asked. The batching can do
better than the server asks of it: here every request passes on its own temperature, top-k and top-p.
"""

import sys
from collections.abc import Mapping
from typing import Any

import msgspec

from images.inside.transformers_serve import cpu

CPU = "cpu"
SAMPLED = {"do_sample": True, "temperature": 0.9, "top_k": 50, "top_p": 0.9}
"""What the batch starts with: a value that changes nothing would leave out the step that requests are to set."""


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the engine is told.

    Attributes:
        model: the model's folder.
        device: such as `cpu`.
        port: of the loopback.
        page: tokens of a page of its cache.
        pages: how many it has.
        batch_tokens: the most tokens of one step.
        slots: answers that it generates at once.

    """

    model: str
    device: str
    port: int
    page: int
    pages: int
    batch_tokens: int
    slots: int


def main() -> None:
    """Serve until the process is told to end; the options are JSON."""
    options = msgspec.json.decode(sys.argv[1], type=Options)
    from transformers.cli import serve
    from transformers.cli.serving import utils

    utils.CBGenerateManager = batching(utils.CBGenerateManager, options)
    if options.device == CPU:
        cpu.skip_idle_sampling()
        cpu.draw_among_the_left()
        cpu.attend_apart()
    else:
        leave_out_cudnn()
    serve.Serve(
        force_model=options.model,
        continuous_batching=True,
        device=options.device,
        host="127.0.0.1",
        port=options.port,
        log_level="error",
    )


def batching(usual: Any, options: Options) -> Any:
    """Transformers' own batching, bounded, with each request's own way to sample."""
    from transformers import ContinuousBatchingConfig, GenerationConfig

    class PerRequest(usual):  # type: ignore[misc]
        def init_cb(self, model: Any, gen_config: Any) -> None:
            if self._cb is not None:
                return
            if options.device == CPU:
                cpu.multiply_by_onednn(model, options.slots)
            self._how: Mapping[str, Any] = {}
            self._cb_config = ContinuousBatchingConfig(
                page_size=options.page,
                num_blocks=options.pages,
                max_batch_tokens=options.batch_tokens,
                max_requests_per_batch=options.slots,
                per_request_processors=True,
            )
            super().init_cb(model, GenerationConfig(**SAMPLED, use_cache=False, eos_token_id=gen_config.eos_token_id))
            manager: Any = self._cb
            add = manager.add_request
            manager.add_request = lambda *args, **kwargs: add(*args, **kwargs, **self._how)

        def generate_streaming(self, model: Any, processor: Any, inputs: Any, gen_config: Any, **more: Any) -> Any:
            # Nothing else runs between this line and `add_request`: both are on the event loop, without an await.
            self._how = {name: getattr(gen_config, name) for name in ("temperature", "top_k", "top_p")}
            return super().generate_streaming(model, processor, inputs, gen_config, **more)

    return PerRequest


def leave_out_cudnn() -> None:
    """Attention and convolutions by torch's own kernels: cuDNN's are a sixth of the image, and text needs none."""
    import torch

    torch.backends.cudnn.enabled = False
    torch.backends.cuda.enable_cudnn_sdp(False)


if __name__ == "__main__":
    main()
