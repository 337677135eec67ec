-- Which request wrk sends, and what it saw as one line of JSON on standard error.
-- From the environment, so that no token stands on a command line:
--   BENCH_METHOD, BENCH_TOKEN, BENCH_AUTHORIZATION, BENCH_BODY: the request; "%d" in the body becomes a number
--     that no other request of this run has.
--   BENCH_EXPECT: the one status that is right. Without it only statuses of 400 and above are counted as wrong,
--     which costs wrk nothing (looking at each reply does).

local threads = {}
wrong = 0

function setup(thread)
  table.insert(threads, thread)
end

function init()
  wrk.method = os.getenv("BENCH_METHOD") or "GET"
  local token = os.getenv("BENCH_TOKEN")
  if token then
    wrk.headers["X-Vault-Token"] = token
  end
  local authorization = os.getenv("BENCH_AUTHORIZATION")
  if authorization then
    wrk.headers["Authorization"] = authorization
  end
  local body = os.getenv("BENCH_BODY")
  if body then
    wrk.headers["Content-Type"] = "application/json"
    wrk.body = body
    if string.find(body, "%d", 1, true) then
      local sent = 0
      request = function()
        sent = sent + 1
        return wrk.format(nil, nil, nil, string.format(body, sent))
      end
    end
  end
end

local expected = tonumber(os.getenv("BENCH_EXPECT") or "")
if expected then
  function response(status)
    if status ~= expected then
      wrong = wrong + 1
    end
  end
end

function done(summary, latency)
  local unexpected = 0
  for _, thread in ipairs(threads) do
    unexpected = unexpected + thread:get("wrong")
  end
  local errors = summary.errors
  -- wrk counts a status above 399 by itself; with BENCH_EXPECT the same reply is among "unexpected" as well.
  io.stderr:write(string.format(
    '{"requests":%d,"duration_us":%d,"latency_us":{"50":%d,"90":%d,"99":%d,"100":%d},'
      .. '"errors":{"connect":%d,"read":%d,"write":%d,"timeout":%d,"status":%d,"unexpected":%d}}\n',
    summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(90), latency:percentile(99), latency.max,
    errors.connect, errors.read, errors.write, errors.timeout, errors.status, unexpected
  ))
end
