// Package kmecho puts a Keymeter meter before the handlers of an Echo server. It is a module of its own, so that the SDK
// does not choose the version of Echo for those who do not use it.
package kmecho

import (
	"net/http"

	"github.com/labstack/echo/v4"

	keymeter "github.com/keymeter/keymeter/sdk/go"
)

// Middleware lets through what the meter does. Handlers find the verdict with
// keymeter.FromContext(c.Request().Context()). If the meter has no ClientIP and the server has an IPExtractor, that one
// tells the customer's address.
func Middleware(meter *keymeter.Meter) echo.MiddlewareFunc {
	meter.Wrap(http.NotFoundHandler()) // panics now rather than at the first request, if the meter is not complete
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) (err error) {
			of := *meter
			if of.ClientIP == nil && c.Echo().IPExtractor != nil {
				of.ClientIP = c.Echo().IPExtractor
			}
			of.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				c.SetRequest(r)
				err = next(c)
			})).ServeHTTP(c.Response(), c.Request())
			return err
		}
	}
}
