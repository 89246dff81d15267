// Package web serves the documentation and the contract that it shows: Swagger UI to try the API, Redoc to read about
// it, both embedded. The browser loads nothing from anywhere else.
package web

import (
	"embed"
	"path"

	"github.com/labstack/echo/v4"
)

// files are what the pages consist of, each at its path. Those in docs/swagger-ui and reference/redoc are third
// parties'; scripts/vendor-pages copies them.
//
//go:embed docs reference favicon.svg
var files embed.FS

// A page may use this server only, and has no inline script and no inline style.
const (
	docsPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; " +
		"connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

	// referencePolicy is for Redoc. It searches in a worker. Of style elements it may insert empty ones, which it fills
	// by script later, and the one of its scroll bars: these are the hashes. The browser tells the hash of another.
	referencePolicy = "default-src 'none'; script-src 'self'; worker-src blob:; style-src 'self' " +
		"'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=' 'sha256-QMIg+bpjm3JdElJ388KYke01izlUW0UoNOeKjpMxdgc='; " +
		"img-src 'self' data:; connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; " +
		"frame-ancestors 'none'"
)

// Register adds the pages /docs and /reference, and the contract at /openapi.yaml and /openapi.json.
func Register(e *echo.Echo, specYAML, specJSON []byte) {
	e.GET("/openapi.yaml", newAsset("application/yaml", revalidate, specYAML).serve)
	e.GET("/openapi.json", newAsset("application/json", revalidate, specJSON).serve)
	icon := embedded("favicon.svg", keep)
	e.GET("/favicon.svg", icon.serve, secure(docsPolicy))
	e.GET("/favicon.ico", icon.serve, secure(docsPolicy)) // asked for by browsers that show the contract itself
	registerPage(e, "docs", docsPolicy)
	registerPage(e, "reference", referencePolicy)
}

func registerPage(e *echo.Echo, folder, policy string) {
	index := embedded(folder+"/index.html", revalidate)
	e.GET("/"+folder, index.serve, secure(policy))
	e.GET("/"+folder+"/", index.serve, secure(policy))
	registerFolder(e, folder, policy, revalidate)
}

// registerFolder serves all that is in a folder. What is in folders below it changes with its version only.
func registerFolder(e *echo.Echo, folder, policy, cacheControl string) {
	entries, err := files.ReadDir(folder)
	if err != nil {
		panic(err) // cannot be: the compiler has put it there
	}
	for _, entry := range entries {
		name := path.Join(folder, entry.Name())
		if entry.IsDir() {
			registerFolder(e, name, policy, keep)
			continue
		}
		e.GET("/"+name, embedded(name, cacheControl).serve, secure(policy))
	}
}

// secure sets the headers of everything that a page consists of.
func secure(policy string) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			h := c.Response().Header()
			h.Set("Content-Security-Policy", policy)
			h.Set("Referrer-Policy", "no-referrer")
			return next(c)
		}
	}
}

func embedded(name, cacheControl string) *asset {
	content, err := files.ReadFile(name)
	if err != nil {
		panic(err) // cannot be, as above
	}
	return newAsset(contentType(name), cacheControl, content)
}

func contentType(name string) string {
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	default: // licences
		return "text/plain; charset=utf-8"
	}
}
