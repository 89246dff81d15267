// Package web serves the documentation: Swagger UI, embedded, and the contract that it shows. The browser loads
// nothing from anywhere else.
package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"fmt"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
)

// files are what the page consists of. Those in swagger are copied by scripts/vendor-swagger.sh.
//
//go:embed page swagger/swagger-ui-bundle.js swagger/swagger-ui.css
var files embed.FS

const (
	// contentSecurityPolicy lets the page use this server only, and no inline script or style.
	contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; " +
		"connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

	revalidate = "no-cache" // may be kept, but has to be asked for each time, which the ETag makes cheap
	keep       = "public, max-age=3600"
)

// asset is a file to serve.
type asset struct {
	contentType  string
	cacheControl string
	etag         string
	plain        []byte
	gzipped      func() []byte // compresses at the first call
}

// Register adds the documentation at /docs and the contract at /openapi.yaml and /openapi.json.
func Register(e *echo.Echo, specYAML, specJSON []byte) {
	e.GET("/openapi.yaml", serve(newAsset("application/yaml", revalidate, specYAML)))
	e.GET("/openapi.json", serve(newAsset("application/json", revalidate, specJSON)))

	docs := e.Group("/docs", secure)
	index := serve(embedded("page/index.html", "text/html; charset=utf-8", revalidate))
	docs.GET("", index)
	docs.GET("/", index)
	for file, contentType := range map[string]string{
		"page/init.js":                 "text/javascript; charset=utf-8",
		"page/page.css":                "text/css; charset=utf-8",
		"swagger/swagger-ui-bundle.js": "text/javascript; charset=utf-8",
		"swagger/swagger-ui.css":       "text/css; charset=utf-8",
	} {
		cacheControl := revalidate
		if path.Dir(file) == "swagger" {
			cacheControl = keep
		}
		docs.GET("/"+path.Base(file), serve(embedded(file, contentType, cacheControl)))
	}
	icon := serve(embedded("page/favicon.svg", "image/svg+xml", keep))
	docs.GET("/favicon.svg", icon)
	e.GET("/favicon.ico", icon, secure) // asked for by browsers that show the contract itself
}

// secure sets the headers of everything the page consists of.
func secure(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		h := c.Response().Header()
		h.Set("Content-Security-Policy", contentSecurityPolicy)
		h.Set("Referrer-Policy", "no-referrer")
		return next(c)
	}
}

func serve(a *asset) echo.HandlerFunc {
	return func(c echo.Context) error {
		h := c.Response().Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", a.cacheControl)
		h.Set("Content-Type", a.contentType)
		h.Add("Vary", "Accept-Encoding")
		body, etag := a.plain, a.etag
		if acceptsGzip(c.Request().Header.Get("Accept-Encoding")) {
			body, etag = a.gzipped(), a.etag+"-gzip"
			h.Set("Content-Encoding", "gzip")
		}
		h.Set("ETag", strconv.Quote(etag))
		http.ServeContent(c.Response(), c.Request(), "", time.Time{}, bytes.NewReader(body))
		return nil
	}
}

func newAsset(contentType, cacheControl string, content []byte) *asset {
	sum := sha256.Sum256(content)
	return &asset{
		contentType:  contentType,
		cacheControl: cacheControl,
		etag:         fmt.Sprintf("%x", sum[:12]),
		plain:        content,
		gzipped:      sync.OnceValue(func() []byte { return compress(content) }),
	}
}

func embedded(name, contentType, cacheControl string) *asset {
	content, err := files.ReadFile(name)
	if err != nil {
		panic(err) // cannot be: the compiler has put it there, and a test looks at each
	}
	return newAsset(contentType, cacheControl, content)
}

func compress(content []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write(content) // writing to memory does not fail
	_ = w.Close()
	return out.Bytes()
}

// acceptsGzip reads an Accept-Encoding header.
func acceptsGzip(header string) bool {
	for part := range strings.SplitSeq(header, ",") {
		coding, params, _ := strings.Cut(part, ";")
		if !strings.EqualFold(strings.TrimSpace(coding), "gzip") {
			continue
		}
		q, found := strings.CutPrefix(strings.ReplaceAll(params, " ", ""), "q=")
		if !found {
			return true
		}
		weight, err := strconv.ParseFloat(q, 64)
		return err == nil && weight > 0
	}
	return false
}
