package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
)

const (
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

func (a *asset) serve(c echo.Context) error {
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
