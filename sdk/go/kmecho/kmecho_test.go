package kmecho_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/labstack/echo/v4"

	keymeter "github.com/keymeter/keymeter/sdk/go"
	"github.com/keymeter/keymeter/sdk/go/kmecho"
)

// The tests run beside a real server: scripts/sdk-go starts it and says where it is.
func TestMain(m *testing.M) {
	if os.Getenv("KEYMETER_URL") == "" {
		fmt.Fprintln(os.Stderr, "KEYMETER_URL is not set: run scripts/sdk-go")
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func client(t *testing.T, token string) *keymeter.Client {
	t.Helper()
	c, err := keymeter.New(os.Getenv("KEYMETER_URL"), os.Getenv(token))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func newKey(t *testing.T, body keymeter.CreateKeyRequest) *keymeter.CreatedKey {
	t.Helper()
	operator := client(t, "KEYMETER_OPERATOR_TOKEN")
	account, err := operator.CreateAccount(t.Context(), keymeter.CreateAccountRequest{Name: t.Name()})
	if err != nil {
		t.Fatal(err)
	}
	key, err := operator.CreateAccountKey(t.Context(), account.ID, body)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func ask(e *echo.Echo, key string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/v1/speak", nil)
	r.RemoteAddr = "198.51.100.1:1234"
	r.Header.Set("Authorization", "Bearer "+key)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	e.ServeHTTP(w, r)
	return w
}

func TestMiddleware(t *testing.T) {
	t.Parallel()
	key := newKey(t, keymeter.CreateKeyRequest{})
	e := echo.New()
	var after string // what middleware further out sees of the request
	e.Use(func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			err := next(c)
			after = c.Request().Header.Get("Authorization")
			return err
		}
	})
	e.Use(kmecho.Middleware(&keymeter.Meter{
		Client: client(t, "KEYMETER_SERVICE_TOKEN"),
		Cost:   &keymeter.Cost{Category: keymeter.CategoryRAG, Credits: keymeter.Ptr[int64](2000)},
	}))
	e.POST("/v1/speak", func(c echo.Context) error {
		return c.String(http.StatusTeapot, keymeter.FromContext(c.Request().Context()).KeyID())
	})
	if w := ask(e, key.Key); w.Code != http.StatusTeapot || w.Body.String() != key.ID || after != "" {
		t.Fatal(w.Code, w.Body, after)
	}
	if w := ask(e, key.Key); w.Code != http.StatusPaymentRequired || !strings.Contains(w.Body.String(), "credits_exhausted") {
		t.Fatal(w.Code, w.Body)
	}
	if w := ask(e, "nonsense"); w.Code != http.StatusUnauthorized || w.Header().Get("Content-Type") != "application/problem+json" {
		t.Fatal(w.Code, w.Body)
	}
}

// An error of a handler is for Echo to answer, and what was held is free again.
func TestErrorOfAHandler(t *testing.T) {
	t.Parallel()
	key := newKey(t, keymeter.CreateKeyRequest{})
	e := echo.New()
	e.Use(kmecho.Middleware(&keymeter.Meter{
		Client: client(t, "KEYMETER_SERVICE_TOKEN"), Hold: &keymeter.Hold{Category: keymeter.CategoryLLM, Credits: 2500},
	}))
	e.POST("/v1/speak", func(echo.Context) error { return echo.NewHTTPError(http.StatusConflict, "busy") })
	for range 2 {
		if w := ask(e, key.Key); w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), "busy") {
			t.Fatal(w.Code, w.Body)
		}
	}
}

// The customer's address is that of the connection, unless the server says how to find it.
func TestAddress(t *testing.T) {
	t.Parallel()
	key := newKey(t, keymeter.CreateKeyRequest{AllowedIps: []string{"192.0.2.1"}})
	for _, trusts := range []bool{false, true} {
		e := echo.New()
		want := http.StatusForbidden
		if trusts {
			e.IPExtractor = echo.ExtractIPFromRealIPHeader(echo.TrustIPRange(mustNet(t, "198.51.100.0/24")))
			want = http.StatusNoContent
		}
		e.Use(kmecho.Middleware(&keymeter.Meter{Client: client(t, "KEYMETER_SERVICE_TOKEN")}))
		e.POST("/v1/speak", func(c echo.Context) error { return c.NoContent(http.StatusNoContent) })
		if w := ask(e, key.Key, "X-Real-Ip", "192.0.2.1"); w.Code != want {
			t.Fatal(trusts, w.Code, w.Body)
		}
	}
}

func mustNet(t *testing.T, cidr string) *net.IPNet {
	t.Helper()
	_, network, err := net.ParseCIDR(cidr)
	if err != nil {
		t.Fatal(err)
	}
	return network
}
