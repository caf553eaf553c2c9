-- For wrk: sends the prepared requests in turn, and prints what came of them as a line of JSON.
local requests = dofile(os.getenv('REQUESTS'))
local last = 0

function request()
  last = last % #requests + 1
  return requests[last]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "requestsPerSecond": %f, "p50": %f, "p99": %f, "failed": %d}\n',
    summary.requests,
    summary.requests / summary.duration * 1e6,
    latency:percentile(50) / 1e3,
    latency:percentile(99) / 1e3,
    errors.connect + errors.read + errors.write + errors.timeout + errors.status
  ))
end
