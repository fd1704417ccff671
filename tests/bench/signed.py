"""A direct call: GetSecretValue, signed with ACS3-HMAC-SHA256 as Alibaba Cloud documents it."""

import hashlib
import hmac
import time
import uuid

from process import KEY_ID, KEY_SECRET

EMPTY = hashlib.sha256(b"").hexdigest()


def request(name, host):
    """Target and headers of a signed call."""
    query = f"SecretName={name}&VersionStage=ACSCurrent"
    headers = {
        "host": host,
        "x-acs-action": "GetSecretValue",
        "x-acs-content-sha256": EMPTY,
        "x-acs-date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "x-acs-signature-nonce": uuid.uuid4().hex,
        "x-acs-version": "2016-01-20",
    }
    names = ";".join(sorted(headers))
    canonical = "".join(f"{key}:{headers[key]}\n" for key in sorted(headers))
    text = f"POST\n/\n{query}\n{canonical}\n{names}\n{EMPTY}"
    to_sign = "ACS3-HMAC-SHA256\n" + hashlib.sha256(text.encode()).hexdigest()
    signature = hmac.new(KEY_SECRET.encode(), to_sign.encode(), hashlib.sha256).hexdigest()
    headers["Authorization"] = (
        f"ACS3-HMAC-SHA256 Credential={KEY_ID},SignedHeaders={names},Signature={signature}"
    )
    headers["Content-Length"] = "0"
    return f"/?{query}", headers
