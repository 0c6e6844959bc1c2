# The server with its page. CPU: docker build -t unified .
# CUDA: docker build --build-arg DEVICE=cu130 -t unified:cuda .   (any of PyTorch's own builds)
FROM python:3.11-slim-bookworm
ARG DEVICE=cpu

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1 \
    HF_HUB_OFFLINE=1 GRADIO_ANALYTICS_ENABLED=False \
    GRADIO_TEMP_DIR=/tmp/uploads NUMBA_CACHE_DIR=/tmp/numba

WORKDIR /build
COPY constraints.txt ./
RUN pip install --index-url "https://download.pytorch.org/whl/${DEVICE}" \
    "torch==$(sed -n 's/^torch==//p' constraints.txt)"
COPY . .
RUN pip install -c constraints.txt ".[web]" && rm -rf /build/* \
    && useradd --create-home --uid 10001 unified && mkdir /data && chown unified /data

USER unified
WORKDIR /home/unified
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=120s --retries=4 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
STOPSIGNAL SIGINT
ENTRYPOINT ["unified"]
CMD ["serve", "--page", "--host", "0.0.0.0", "--port", "8000", "--store", "/data"]
