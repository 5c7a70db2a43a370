# One image for every role: web, worker, maintenance, scheduler and the one-off migration.
# docker-compose.yml and deploy/kubernetes/ start it with different commands.
#
#   docker build -t dreamsketch:VERSION .
#
# The pinned torch comes from pip's default index; on Linux that build usually carries CUDA and takes
# several GB. For a smaller CPU build, or for another CUDA version, name an index that has it:
#
#   docker build --build-arg TORCH_INDEX_URL=https://… -t dreamsketch:VERSION .
#
# pip's own PIP_INDEX_URL can be given in the same way, for everything else.

FROM python:3.11-slim

ARG TORCH_INDEX_URL=""
ARG PIP_INDEX_URL

ENV PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore

# The image writes to /data and /tmp only; the code belongs to root and stays as it is.
RUN groupadd --gid 10001 dreamsketch \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin dreamsketch \
    && install --directory --owner=dreamsketch --group=dreamsketch --mode=0750 /data

WORKDIR /app

# Before the code, so that a change of the code does not install everything again. pip checks every file by its hash in
# requirements.txt (--require-hashes). Only a torch of another index is that index's word, and the libraries that its build
# alone needs are the usual index's: that way no other package can slip in.
COPY requirements.txt ./
COPY bin/install bin/
RUN if [ -n "$TORCH_INDEX_URL" ]; then \
        torch="$(grep -o '^torch==[0-9.]*' requirements.txt)" \
        && pip install --no-deps --index-url "$TORCH_INDEX_URL" "$torch" \
        && python bin/install requirements.txt \
        && pip install "$torch"; \
    else \
        python bin/install requirements.txt; \
    fi

COPY . .

ENV VAR_DIR=/data \
    STATIC_ROOT=/app/staticfiles \
    HOME=/data \
    HF_HOME=/data/huggingface \
    OMP_WAIT_POLICY=passive

# Settings start servers of their own where no addresses are given. Nothing connects to these, and none of
# the three values stays in the image.
RUN DATABASE_URL=postgres://build@localhost/build \
    REDIS_URL=redis://localhost:6379/0 \
    SECRET_KEY=only-for-collectstatic-and-not-kept-in-the-image \
    python manage.py collectstatic --noinput \
    && python -m compileall -q accounts dreamsketch gallery generation

USER 10001:10001
EXPOSE 8000

# For the web role. The others are checked, or not, where they are started.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "deploy/health.py", "web"]

CMD ["uvicorn", "dreamsketch.asgi:application", "--host", "0.0.0.0", "--port", "8000", \
     "--http", "dreamsketch.connections:Protocol", "--ws", "none", "--lifespan", "off", \
     "--no-server-header", "--log-level", "warning", "--timeout-graceful-shutdown", "3", "--no-proxy-headers"]
