"""`/v1/models`: the list of one."""

from typing import Literal

import msgspec
from starlette.requests import Request

from images.inside.openai.common import API, check_model
from images.inside.service import Service
from images.inside.web import Json, Route


class ModelCard(msgspec.Struct):
    """A served model.

    Attributes:
        id: the name to send as `model`.
        created: always 0: when the image was built is no part of it.
        owned_by: the model's owner, as its id says.

    """

    id: str
    owned_by: str
    created: int = 0
    object: Literal["model"] = "model"


class ModelList(msgspec.Struct):
    """The models that this server answers for: one."""

    data: list[ModelCard]
    object: Literal["list"] = "list"


class Models:
    """The routes and their handlers."""

    def __init__(self, service: Service) -> None:
        self._service, self._id = service, service.manifest.model.id

    def routes(self) -> list[Route]:
        """What is served."""
        path = "/v1/models"
        return [
            Route(
                method="GET",
                path=path,
                handle=self.models,
                api=API,
                summary="List the served model",
                response=ModelList,
                errors=(401,),
            ),
            Route(
                method="GET",
                path=f"{path}/{{id:path}}",
                handle=self.model,
                api=API,
                summary="Describe the served model",
                response=ModelCard,
                example={"id": self._id},
                errors=(401, 404),
            ),
        ]

    async def models(self, _: Request) -> Json:
        """`GET /v1/models`."""
        return Json(ModelList([self._card()]))

    async def model(self, request: Request) -> Json:
        """`GET /v1/models/{id}`."""
        check_model(self._service, request.path_params["id"], "id")
        return Json(self._card())

    def _card(self) -> ModelCard:
        owner, _, _ = self._id.rpartition("/")
        return ModelCard(self._id, owner or "modelyard")
