# The image holds the executable that `bun run build` makes, and what the C library needs.
#   docker build -t todo-api .
#   docker run -p 8000:8000 -e DATABASE_URL=… -e BETTER_AUTH_URL=… todo-api

FROM oven/bun:1.4.5 AS build
WORKDIR /app
COPY package.json bun.lock ./
RUN bun install --frozen-lockfile --production
COPY tsconfig.json ./
COPY backend backend
RUN bun run build

# Neither a shell nor a package manager; its user is 65532 and owns nothing.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /app/dist/todo-api /usr/local/bin/todo-api
ENV NODE_ENV=production PORT=8000
EXPOSE 8000
USER nonroot
# On start the server waits up to half a minute for its database.
HEALTHCHECK --interval=30s --timeout=5s --start-period=40s \
  CMD ["/usr/local/bin/todo-api", "health"]
ENTRYPOINT ["/usr/local/bin/todo-api"]
