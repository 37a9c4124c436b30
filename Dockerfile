# cmgems in a container. The default torch of the package index computes on CUDA GPUs; for a CPU alone,
# which is gigabytes smaller, give the index of CPU builds that pytorch.org's install page names:
#   docker build -t cmgems .
#   docker build -t cmgems:cpu --build-arg TORCH_INDEX=URL .
#   docker run --rm -it --gpus all --shm-size 1g -v "$PWD:/data" cmgems pretrain quickstart
ARG PYTHON=3.12
FROM python:${PYTHON}-slim

ARG TORCH_INDEX=""
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /source
COPY setup.cfg pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
COPY data_modules data_modules
COPY callbacks callbacks
COPY experiments experiments
RUN pip install --no-cache-dir --constraint constraints.txt \
        ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} torch==2.13.0 . \
    && useradd --create-home cmgems \
    && mkdir /data && chown cmgems /data

# Runs, the cache of genomes and kernels lie in the folder that the user mounts.
USER cmgems
WORKDIR /data
ENV CMGEMS_CACHE=/data/.cmgems-cache NUMBA_CACHE_DIR=/data/.cmgems-cache/numba
ENTRYPOINT ["cmgems"]
CMD ["--help"]
