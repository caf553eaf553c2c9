# The image holds the executable that `bun run build` makes, and what the C library needs.
#   docker build -t todo-api .
#   docker run -p 8000:8000 -e DATABASE_URL=… -e BETTER_AUTH_URL=… todo-api
#
# A tag can be moved. For a build that is the same next year, give the digests that you have checked
# (docker buildx imagetools inspect <image> prints them):
#   docker build --build-arg BUILD_IMAGE=oven/bun:1.4.5@sha256:… --build-arg RUN_IMAGE=…@sha256:… .
ARG BUILD_IMAGE=oven/bun:1.4.5
# It has no tags of versions. Neither a shell nor a package manager; its user is 65532 and owns nothing.
ARG RUN_IMAGE=gcr.io/distroless/cc-debian12:nonroot

FROM ${BUILD_IMAGE} AS build
WORKDIR /app
COPY package.json bun.lock ./
RUN bun install --frozen-lockfile --production
COPY tsconfig.json ./
COPY backend backend
RUN bun run build

FROM ${RUN_IMAGE}
ARG VERSION=1.0.0
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="Todo API" \
  org.opencontainers.image.description="The backend of a multi-user Todo application" \
  org.opencontainers.image.licenses="MIT" \
  org.opencontainers.image.version="${VERSION}" \
  org.opencontainers.image.revision="${REVISION}" \
  org.opencontainers.image.source="${SOURCE}"
COPY --from=build /app/dist/todo-api /usr/local/bin/todo-api
COPY LICENSE /usr/share/doc/todo-api/LICENSE
ENV NODE_ENV=production PORT=8000
EXPOSE 8000
USER nonroot
# On start the server waits up to half a minute for its database.
HEALTHCHECK --interval=30s --timeout=5s --start-period=40s \
  CMD ["/usr/local/bin/todo-api", "health"]
ENTRYPOINT ["/usr/local/bin/todo-api"]
