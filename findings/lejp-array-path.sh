#!/usr/bin/env bash
# LEJP, the JSON parser of libwebsockets 4.1.6 (Debian 12): a path that names the strings of an array ("ids[]") never matches,
# although that is the path which the parser shows while it reads them; the path of the array itself ("ids") does.
#
# Seen:
#   "ids[]" wanted: 2 strings at ids[], 0 matched
#   "ids" wanted: 2 strings at ids[], 2 matched
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
cat >"$work/main.c" <<'C'
#include <libwebsockets.h>
#include <stdio.h>
#include <string.h>

static int strings, matched;

static signed char on_json(struct lejp_ctx *json, char reason) {
    if (reason == LEJPCB_VAL_STR_END && !strcmp(json->path, "ids[]")) {
        strings++;
        matched += json->path_match != 0;
    }
    return 0;
}

int main(void) {
    static const char *const wanted[] = {"ids[]", "ids"};
    const char *text = "{\"ids\":[\"a\",\"b\"]}";
    for (int i = 0; i < 2; i++) {
        struct lejp_ctx json;
        strings = matched = 0;
        lejp_construct(&json, on_json, NULL, wanted + i, 1);
        lejp_parse(&json, (const unsigned char *)text, (int)strlen(text));
        lejp_destruct(&json);
        printf("\"%s\" wanted: %d strings at ids[], %d matched\n", wanted[i], strings, matched);
    }
    return 0;
}
C
cc -o "$work/main" "$work/main.c" -lwebsockets
"$work/main" | diff - <(sed -n 's/^#   //p' "$0")
