#!/usr/bin/env bash
# gobwas/ws 1.5.0 (Go): the close codes 1012, 1013 and 1014, which IANA's registry has, are protocol errors to it. A client
# sees an error without a code when a server restarts.
#
# Seen:
#   1000 <nil>
#   1001 <nil>
#   1012 status code is not defined in spec
#   1013 status code is not defined in spec
#   4000 <nil>
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
cp /dev/stdin "$work/main.go" <<'GO'
package main

import (
	"fmt"

	"github.com/gobwas/ws"
)

func main() {
	for _, code := range []ws.StatusCode{1000, 1001, 1012, 1013, 4000} {
		fmt.Println(code, ws.CheckCloseFrameData(code, ""))
	}
}
GO
here=$(realpath "$0"); cd "$work"
go mod init finding 2>/dev/null; go get github.com/gobwas/ws@v1.5.0 2>/dev/null
go run . | diff - <(sed -n 's/^#   //p' "$here")
