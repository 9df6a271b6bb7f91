# resvox in a container. PyTorch's usual wheels hold CUDA; for processors alone, name the index of its CPU wheels:
#   docker build -t resvox .
#   docker build -t resvox:cpu --build-arg TORCH_INDEX_URL=<the index of PyTorch's CPU wheels> .
# Models and scans are volumes or addresses:
#   docker run --rm -v $PWD/models:/models:ro -v $PWD:/data resvox predict /models/liver.safetensors scans/ -o out
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN python -m pip install --no-cache-dir build==1.3.0 hatchling==1.27.0 \
    && python -m build --wheel --no-isolation --outdir /wheels

FROM python:${PYTHON}-slim
ARG TORCH_INDEX_URL=""
ARG EXTRAS=s3,gcs,azure,parquet,ray,dicom,hub,openvino
COPY --from=build /wheels /wheels
RUN python -m pip install --no-cache-dir ${TORCH_INDEX_URL:+--index-url "${TORCH_INDEX_URL}"} torch \
    && wheel="$(ls /wheels/resvox-*.whl)" \
    && python -m pip install --no-cache-dir "${wheel}[${EXTRAS}]" \
    && rm -rf /wheels \
    && useradd --create-home --uid 1000 resvox \
    && mkdir -p /models /data /scratch /cache \
    && chown resvox /data /scratch /cache
ENV RESVOX_SCRATCH=/scratch \
    RESVOX_CACHE=/cache \
    PYTHONUNBUFFERED=1
VOLUME ["/models", "/data", "/scratch"]
WORKDIR /data
USER resvox
ENTRYPOINT ["resvox"]
CMD ["--help"]
