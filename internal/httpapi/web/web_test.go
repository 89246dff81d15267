package web

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"testing"

	"github.com/labstack/echo/v4"
	"github.com/stretchr/testify/require"
)

const (
	testYAML = "openapi: 3.0.3\n"
	testJSON = `{"openapi":"3.0.3"}`
)

func get(t *testing.T, url string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	e := echo.New()
	Register(e, []byte(testYAML), []byte(testJSON))
	r := httptest.NewRequest(http.MethodGet, url, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	e.ServeHTTP(w, r)
	return w
}

func TestContract(t *testing.T) {
	t.Parallel()
	w := get(t, "/openapi.yaml")
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, "application/yaml", w.Header().Get("Content-Type"))
	require.Equal(t, testYAML, w.Body.String())

	w = get(t, "/openapi.json")
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, "application/json", w.Header().Get("Content-Type"))
	require.Equal(t, testJSON, w.Body.String())
}

func TestPages(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]struct {
		contentType string
		minSize     int
	}{
		"/docs":                                 {"text/html; charset=utf-8", 100},
		"/docs/":                                {"text/html; charset=utf-8", 100},
		"/docs/init.js":                         {"text/javascript; charset=utf-8", 100},
		"/docs/page.css":                        {"text/css; charset=utf-8", 10},
		"/docs/swagger-ui/swagger-ui-bundle.js": {"text/javascript; charset=utf-8", 1_000_000},
		"/docs/swagger-ui/swagger-ui.css":       {"text/css; charset=utf-8", 100_000},
		"/docs/swagger-ui/LICENSE":              {"text/plain; charset=utf-8", 1_000},
		"/reference":                            {"text/html; charset=utf-8", 100},
		"/reference/":                           {"text/html; charset=utf-8", 100},
		"/reference/init.js":                    {"text/javascript; charset=utf-8", 50},
		"/reference/page.css":                   {"text/css; charset=utf-8", 10},
		"/reference/redoc/redoc.standalone.js":  {"text/javascript; charset=utf-8", 1_000_000},
		"/reference/redoc/LICENSE":              {"text/plain; charset=utf-8", 1_000},
		"/favicon.svg":                          {"image/svg+xml", 100},
		"/favicon.ico":                          {"image/svg+xml", 100},
	} {
		t.Run(url, func(t *testing.T) {
			t.Parallel()
			w := get(t, url)
			require.Equal(t, http.StatusOK, w.Code)
			h := w.Header()
			require.Equal(t, want.contentType, h.Get("Content-Type"))
			require.Equal(t, "nosniff", h.Get("X-Content-Type-Options"))
			require.NotEmpty(t, h.Get("Cache-Control"))
			require.Greater(t, w.Body.Len(), want.minSize)

			again := get(t, url, "If-None-Match", h.Get("ETag"))
			require.Equal(t, http.StatusNotModified, again.Code)
			require.Zero(t, again.Body.Len())
		})
	}
	require.Equal(t, http.StatusNotFound, get(t, "/docs/swagger-ui/swagger-ui.js").Code)
}

func TestPolicy(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{"/docs": docsPolicy, "/reference": referencePolicy} {
		policy := get(t, url).Header().Get("Content-Security-Policy")
		require.Equal(t, want, policy)
		require.Contains(t, policy, "default-src 'none'")
		require.NotRegexp(t, `unsafe|https?:|\*`, policy)
	}
}

// What the policies do not allow would not work; what they allow should still not lead elsewhere.
func TestPages_referToThisServerOnly(t *testing.T) {
	t.Parallel()
	for _, folder := range []string{"/docs", "/reference"} {
		for _, url := range []string{folder, folder + "/init.js", folder + "/page.css"} {
			require.NotRegexp(t, `(?i)https?:|['"(]//`, get(t, url).Body.String(), url)
		}
		page := get(t, folder).Body.String()
		require.NotRegexp(t, `(?i)<style|\sstyle=|\son\w+=|<script>`, page, "the policy forbids inline code")
		for _, ref := range regexp.MustCompile(`(?:href|src)="([^"]+)"`).FindAllStringSubmatch(page, -1) {
			require.Equal(t, http.StatusOK, get(t, ref[1]).Code, ref[1])
		}
	}
}

func TestGzip(t *testing.T) {
	t.Parallel()
	const url = "/docs/swagger-ui/swagger-ui-bundle.js"
	plain, packed := get(t, url), get(t, url, "Accept-Encoding", "br, gzip")
	require.Empty(t, plain.Header().Get("Content-Encoding"))
	require.Equal(t, "gzip", packed.Header().Get("Content-Encoding"))
	require.Equal(t, "Accept-Encoding", packed.Header().Get("Vary"))
	require.NotEqual(t, plain.Header().Get("ETag"), packed.Header().Get("ETag"), "other bytes, other tag")
	require.Less(t, packed.Body.Len(), plain.Body.Len()/3)

	r, err := gzip.NewReader(packed.Body)
	require.NoError(t, err)
	unpacked, err := io.ReadAll(r)
	require.NoError(t, err)
	require.Equal(t, plain.Body.Bytes(), unpacked)
}

func TestAcceptsGzip(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]bool{
		"":                      false,
		"br":                    false,
		"gzip":                  true,
		"deflate, GZIP;q=0.5":   true,
		"gzip;q=0":              false,
		"gzip; q=0.0, identity": false,
		"x-gzip":                false,
	} {
		require.Equal(t, want, acceptsGzip(header), header)
	}
}
