# Serves an exported model on the CPU, without torch (docs/deploy/docker.md).
#   docker build -t vitrail-serve .
#   docker run --read-only --tmpfs /tmp -v "$PWD/runs/photos-1/export:/model:ro" -p 127.0.0.1:8000:8000 vitrail-serve
FROM python:3.12-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE NOTICE MANIFEST.in CHANGELOG.md CITATION.cff SECURITY.md ./
COPY vitrail ./vitrail
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp
COPY requirements-serve.txt /requirements-serve.txt
RUN pip install --no-cache-dir --require-hashes --only-binary=:all: -r /requirements-serve.txt
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir --no-deps --no-index --find-links /wheels vitrail
USER 65532:65532
WORKDIR /tmp
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/v2/health/ready', timeout=4)"]
ENTRYPOINT ["vitrail"]
# Only publish the port to this machine or behind a proxy that checks who asks; else give --token-file.
CMD ["serve", "/model", "--host", "0.0.0.0", "--port", "8000", "--no-auth"]
