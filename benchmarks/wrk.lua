-- The result as one line of JSON. Only `done` is defined, so that wrk runs no script for a request or a response.
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '{"seconds": %.6f, "requests": %d, "bytes": %d, "median": %.3f, "high": %.3f, "errors": {"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}}\n',
    summary.duration / 1e6, summary.requests, summary.bytes, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, e.connect, e.read, e.write, e.status, e.timeout))
end
