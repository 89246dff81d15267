// Echogateway is an API with Echo that verifies keys and meters what they are used for.
package main

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"os"

	"github.com/labstack/echo/v4"

	keymeter "github.com/keymeter/keymeter/sdk/go"
	"github.com/keymeter/keymeter/sdk/go/kmecho"
)

func main() {
	client, err := keymeter.New(os.Getenv("KEYMETER_URL"), os.Getenv("KEYMETER_SERVICE_TOKEN"))
	if err != nil {
		log.Fatal(err)
	}
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	meter := &keymeter.Meter{Client: client, Cost: &keymeter.Cost{Category: keymeter.CategoryRAG, Quantity: keymeter.Ptr[int64](1)}}
	e.Use(kmecho.Middleware(meter))
	e.GET("/v1/search", func(c echo.Context) error {
		verdict := keymeter.FromContext(c.Request().Context())
		return c.String(http.StatusOK, fmt.Sprintln("found for", verdict.AccountID(), "at", *verdict.Result.Credits, "credits"))
	})

	e.Listener, err = net.Listen("tcp", os.Getenv("ADDR"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening on", e.Listener.Addr())
	log.Fatal(e.Start(""))
}
