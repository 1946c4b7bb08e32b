# An image with `iccld`, the extras app and onnx, and the package versions of constraints.txt. It was not built here.
#
#   docker build --tag iccld .
#   docker build --tag iccld --build-arg TORCH_INDEX=INDEX .
#
# INDEX is the address of an index of torch wheels: the one for CPUs, or the one for your CUDA version, as the
# installation page of PyTorch gives it. Without TORCH_INDEX, pip takes torch from its default index.
# The versions in constraints.txt were tested with Python 3.11.
ARG PYTHON_VERSION=3.11

FROM python:${PYTHON_VERSION}-slim AS base
ENV PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1
# Any user may write to the home folder, so that `docker run --user` works with every user id.
RUN useradd --create-home --uid 1000 iccld \
    && chmod 1777 /home/iccld \
    && install --directory --owner=iccld --group=iccld /work
ENV HOME=/home/iccld

# For .devcontainer: the clone is mounted, and `make venv` installs it there.
FROM base AS dev
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/*
USER iccld

FROM base AS build
ARG TORCH_INDEX=
RUN python -m venv /opt/iccld
WORKDIR /build
COPY constraints.txt ./
# Only torch comes from TORCH_INDEX. Its dependencies are installed with those of iccld.
RUN if [ -n "${TORCH_INDEX}" ]; then \
        /opt/iccld/bin/pip install --no-deps --index-url "${TORCH_INDEX}" --constraint constraints.txt torch; \
    fi
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN /opt/iccld/bin/pip install --constraint constraints.txt '.[app,onnx]'

FROM base AS runtime
COPY --from=build /opt/iccld /opt/iccld
ENV PATH=/opt/iccld/bin:${PATH}
USER iccld
WORKDIR /work
EXPOSE 7860
ENTRYPOINT ["iccld"]
CMD ["--help"]
