#!/bin/sh
# Fetches the files of Swagger UI that the server embeds, as they are in the npm package.
# To upgrade, change the version, run this and look at /docs in a browser.
set -eu

version=5.35.0
target="$(cd "$(dirname "$0")/.." && pwd)/internal/httpapi/web/swagger"

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"
npm pack --silent "swagger-ui-dist@$version" >/dev/null
tar -xzf "swagger-ui-dist-$version.tgz"

mkdir -p "$target"
for file in swagger-ui-bundle.js swagger-ui-bundle.js.LICENSE.txt swagger-ui.css LICENSE NOTICE; do
	cp "package/$file" "$target/$file"
	chmod 644 "$target/$file"
done
printf '%s\n' "$version" >"$target/VERSION"
