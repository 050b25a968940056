-- The result as one line of JSON. Only `done` is defined, so that wrk runs no script for a request or a response.
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '{"seconds": %.6f, "requests": %d, "bytes": %d, "errors": {"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}}\n',
    summary.duration / 1e6, summary.requests, summary.bytes, e.connect, e.read, e.write, e.status, e.timeout))
end
