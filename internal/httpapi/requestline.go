package httpapi

import (
	"errors"
	"log/slog"
	"net/http"
	"regexp"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/keymeter/keymeter/internal/ids"
)

var requestIDShape = regexp.MustCompile(`^[0-9A-Za-z._-]{1,128}$`)

// requestLine gives the request an id and writes one line about it at the end. The line never holds a header or a body.
func requestLine(logger *slog.Logger, source *ids.Source) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			start := time.Now()
			id := c.Request().Header.Get(echo.HeaderXRequestID)
			if !requestIDShape.MatchString(id) {
				id = source.New("req")
			}
			c.Response().Header().Set(echo.HeaderXRequestID, id)
			err := next(c)
			if err != nil {
				c.Error(err) // answers, so that the line has the status
			}
			logRequest(logger, c, err, time.Since(start))
			return nil
		}
	}
}

func logRequest(logger *slog.Logger, c echo.Context, err error, took time.Duration) {
	status := c.Response().Status
	attrs := []slog.Attr{
		slog.String("requestId", requestIDOf(c)), slog.String("method", c.Request().Method),
		slog.String("route", c.Path()), slog.Int("status", status), slog.Duration("took", took),
	}
	if op := operationOf(c); op != nil {
		attrs = append(attrs, slog.String("operation", op.id))
	}
	if p := principalOf(c.Request().Context()); p.credential != "" {
		attrs = append(attrs, slog.String("credential", string(p.credential)))
		if p.AccountID != "" {
			attrs = append(attrs, slog.String("account", p.AccountID), slog.String("key", p.KeyID))
		}
	}
	level := slog.LevelInfo
	if err != nil {
		attrs = append(attrs, slog.String("error", errorText(err)))
	}
	switch {
	case status == http.StatusServiceUnavailable:
		level = slog.LevelWarn
	case status >= http.StatusInternalServerError:
		level = slog.LevelError
	}
	logger.LogAttrs(c.Request().Context(), level, "request", attrs...)
}

// errorText is the error for the log. Echo's own errors may quote the request, so only their status is kept.
func errorText(err error) string {
	var httpErr *echo.HTTPError
	if errors.As(err, &httpErr) {
		return http.StatusText(httpErr.Code)
	}
	_, refusal := classify(err)
	if len(refusal.Fields) > 0 { // the cause of a bad request quotes it
		return refusal.Code + ": " + refusal.Message
	}
	return err.Error()
}

func requestIDOf(c echo.Context) string { return c.Response().Header().Get(echo.HeaderXRequestID) }
