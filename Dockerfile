# The command `possam` in a container.
#
#   docker build -t possam .
#   docker run --rm -v "$PWD:/data" --user "$(id -u):$(id -g)" possam segment --sample --output output/sample
#   docker run --rm -p 7860:7860 possam demo --host 0.0.0.0
#
# PyTorch is the one for CPUs. For NVIDIA GPUs take wheels that bring CUDA along, from pip's own index, and run with
# --gpus all:
#
#   docker build -t possam:cuda --build-arg TORCH_INDEX= .
#
# BASE may be any image with Python 3.10 or later and pip; for GPUs, one of Debian's kind or with a C compiler.
ARG BASE=python:3.11-slim
FROM ${BASE}

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PYTHONUNBUFFERED=1

# Triton starts with a C compiler, without which deformable attention on a GPU is slower.
RUN case "${TORCH_INDEX}" in */cpu) ;; *) command -v gcc || (apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*) ;; esac

WORKDIR /opt/possam
# What takes long and seldom changes comes first: a change of the code does not install PyTorch again.
COPY requirements.txt ./
RUN pip install ${TORCH_INDEX:+--index-url "${TORCH_INDEX}"} $(grep -E '^torch(vision)?[<>=]' requirements.txt)
RUN pip install -r requirements.txt
COPY pyproject.toml setup.py README.md LICENSE ./
COPY configs configs
COPY possam possam
RUN pip install '.[demo]'

# Whoever --user says has a home, for caches of text embeddings and downloads.
RUN useradd --uid 1000 --create-home possam && chmod 777 /home/possam && install -d -o possam /data
ENV HOME=/home/possam
USER possam
WORKDIR /data
EXPOSE 7860
ENTRYPOINT ["possam"]
CMD ["--help"]
