import base64

import pytest

from images.errors import mask


@pytest.mark.parametrize(
    "text",
    [
        "https://user:S3CRET@example.org/simple",
        "https://S3CRET@example.org/simple",
        "https://user:p@S3CRET@example.org",
        "https://example.org/a.whl?X-Amz-Signature=S3CRET&x=1",
        "https://example.org/a.whl?access_token=S3CRET",
        "Authorization: Bearer hf_S3CRETS3CRET",
    ],
)
def test_credentials_are_masked(text: str) -> None:
    assert "S3CRET" not in mask(text)


def test_what_is_no_credential_is_left_alone() -> None:
    text = f"https://example.org/a@1.0?page=2 sha256:{base64.b16encode(b'x' * 32).decode()}"
    assert mask(text) == text
