# Replace this with your application. The sample reads a secret every ten seconds and logs the status, never the value.
# The token goes through a pipe, because every user can see command lines.
ARG BASE_IMAGE=debian:12-slim
FROM ${BASE_IMAGE}

RUN command -v curl >/dev/null || { \
        apt-get update && apt-get install --yes --no-install-recommends curl && \
        rm --recursive /var/lib/apt/lists/*; }

USER 1000:1000
CMD trap exit TERM; \
    while :; do \
        printf 'X-KMS-Token: %s\n' "$(cat "${KMS_TOKEN_FILE:-/var/run/kmstoken}")" | \
            curl --silent --show-error --noproxy '*' --max-time 12 --header @- \
                --output /dev/null --write-out '%{http_code} %header{cache-status}\n' \
                --get --data-urlencode "secretId=${SECRET_ID:-app/db}" http://127.0.0.1:2025/secretsmanager/get; \
        sleep 10 & wait $!; \
    done
