package httpapi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/labstack/echo/v4"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/keymeter/keymeter/internal/fault"
)

// maxBody is the size of the largest body that is read, in bytes. The contract names it.
const maxBody = 1 << 20

// bodyField is the name by which a problem refers to the body as a whole.
const bodyField = "body"

type bodyKey struct{}

// rawBody returns the body as it was sent.
func rawBody(ctx context.Context) []byte {
	body, _ := ctx.Value(bodyKey{}).([]byte)
	return body
}

// readBody reads the body of an operation that takes one, up to what the contract allows.
func readBody(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		op := operationOf(c)
		if op == nil || op.body == nil {
			return next(c)
		}
		r := c.Request()
		body, err := io.ReadAll(http.MaxBytesReader(c.Response(), r.Body, maxBody))
		var tooLarge *http.MaxBytesError
		switch {
		case errors.As(err, &tooLarge):
			return echo.NewHTTPError(http.StatusRequestEntityTooLarge)
		case err != nil:
			return fault.New(fault.Invalid, "invalid_request", "The body could not be read.").Because(err)
		}
		r = r.WithContext(context.WithValue(r.Context(), bodyKey{}, body))
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		c.SetRequest(r)
		return next(c)
	}
}

// validate checks the request against the contract. Defaults are left to the handlers.
func validate(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		op := operationOf(c)
		if op == nil {
			return next(c)
		}
		wrong, err := checkParameters(op, c)
		if err != nil {
			return err
		}
		r, inBody, err := checkBody(op, c.Request())
		if err != nil {
			return err
		}
		c.SetRequest(r)
		if wrong = append(wrong, inBody...); len(wrong) > 0 {
			return fault.InvalidFields(wrong)
		}
		return next(c)
	}
}

func checkParameters(op *operation, c echo.Context) ([]fault.Field, error) {
	query, err := url.ParseQuery(c.Request().URL.RawQuery)
	if err != nil && op.credential != "" {
		return nil, fault.New(fault.Invalid, "invalid_request", "The query string is not valid.").Because(err)
	}
	var wrong []fault.Field
	for _, p := range op.parameters {
		values := p.values(c, query)
		if p.in == openapi3.ParameterInQuery {
			delete(query, p.name)
		}
		wrong = append(wrong, p.check(values)...)
	}
	if op.credential == "" { // probes and webhooks may carry a query that is none of ours
		return wrong, nil
	}
	for name := range query { // a mistyped name would go unnoticed
		wrong = append(wrong, fault.Field{Name: fieldName(name, nil), Message: "is not a parameter of this operation"})
	}
	return wrong, nil
}

func (p parameter) values(c echo.Context, query url.Values) []string {
	switch p.in {
	case openapi3.ParameterInQuery:
		return query[p.name]
	case openapi3.ParameterInHeader:
		return c.Request().Header.Values(p.name)
	default:
		value, err := url.PathUnescape(c.Param(p.name))
		if err != nil {
			return []string{""}
		}
		return []string{value}
	}
}

func (p parameter) check(values []string) []fault.Field {
	switch {
	case len(values) == 0 && p.required:
		return []fault.Field{{Name: p.name, Message: "is required"}}
	case len(values) == 0:
		return nil
	case len(values) > 1:
		return []fault.Field{{Name: p.name, Message: "must be given once"}}
	}
	if err := p.schema.Validate(parameterValue(p.schema, values[0])); err != nil {
		return complaints(p.name, err)
	}
	return nil
}

// checkBody returns what is wrong with the body, and the request to go on with.
func checkBody(op *operation, r *http.Request) (*http.Request, []fault.Field, error) {
	body := rawBody(r.Context())
	switch {
	case op.body == nil, len(body) == 0 && !op.bodyRequired:
		return r, nil, nil
	case len(body) == 0:
		return r, []fault.Field{{Name: bodyField, Message: "is required"}}, nil
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get(echo.HeaderContentType)); err != nil || kind != echo.MIMEApplicationJSON {
		return r, nil, echo.NewHTTPError(http.StatusUnsupportedMediaType)
	}
	if op.plain != nil {
		if read, ok := op.plain(r); ok {
			return read, nil, nil
		}
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		return r, []fault.Field{{Name: bodyField, Message: "is not valid JSON"}}, nil //nolint:nilerr // it is the caller's
	}
	if err := op.body.Validate(value); err != nil {
		return r, complaints(bodyField, err), nil
	}
	return r, nil, nil
}
