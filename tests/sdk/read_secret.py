"""Reads one secret with the official SDK and prints its value: <endpoint> <secret name>.

The access key comes from ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET.
"""

import os
import sys

from alibabacloud_kms20160120.client import Client
from alibabacloud_kms20160120.models import GetSecretValueRequest
from alibabacloud_tea_openapi.utils_models import Config

endpoint, name = sys.argv[1:]
client = Client(
    Config(
        access_key_id=os.environ["ALIBABA_CLOUD_ACCESS_KEY_ID"],
        access_key_secret=os.environ["ALIBABA_CLOUD_ACCESS_KEY_SECRET"],
        endpoint=endpoint,
        protocol="http",
    )
)
answer = client.get_secret_value(GetSecretValueRequest(secret_name=name)).body
sys.stdout.write(answer.secret_data)
