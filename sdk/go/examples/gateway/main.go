// Gateway is an API with net/http that verifies keys and meters what they are used for.
package main

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"os"

	keymeter "github.com/keymeter/keymeter/sdk/go"
)

func main() {
	client, err := keymeter.New(os.Getenv("KEYMETER_URL"), os.Getenv("KEYMETER_SERVICE_TOKEN"))
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()

	// A cost that is always the same: two lines.
	search := &keymeter.Meter{Client: client, Cost: &keymeter.Cost{Category: keymeter.CategoryRAG, Quantity: keymeter.Ptr[int64](1)}}
	mux.Handle("GET /v1/search", search.Wrap(http.HandlerFunc(serveSearch)))

	// A cost that the request tells: the handler spends it before the work.
	speak := &keymeter.Meter{Client: client, Scope: keymeter.ScopeTTS}
	mux.Handle("POST /v1/speak", speak.Wrap(http.HandlerFunc(serveSpeak)))

	// A cost that is known only at the end: credits are held, and the handler settles.
	chat := &keymeter.Meter{Client: client, Hold: &keymeter.Hold{Category: keymeter.CategoryLLM, Credits: 500}}
	mux.Handle("POST /v1/chat", chat.Wrap(http.HandlerFunc(serveChat)))

	listener, err := net.Listen("tcp", os.Getenv("ADDR"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening on", listener.Addr())
	log.Fatal(http.Serve(listener, mux))
}

func serveSearch(w http.ResponseWriter, r *http.Request) {
	verdict := keymeter.FromContext(r.Context())
	fmt.Fprintln(w, "found for", verdict.AccountID(), "at", *verdict.Result.Credits, "credits")
}

func serveSpeak(w http.ResponseWriter, r *http.Request) {
	verdict := keymeter.FromContext(r.Context())
	result, err := verdict.Record(r.Context(), keymeter.Cost{
		Category: keymeter.CategoryTTS,
		Provider: keymeter.Ptr("cartesia"),
		Quantity: keymeter.Ptr(int64(len(r.FormValue("text")))),
	})
	if err != nil {
		verdict.Refuse(w, r, err)
		return
	}
	fmt.Fprintln(w, "spoken at", result.Credits, "credits")
}

func serveChat(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintln(w, "hello") // the work
	settled, err := keymeter.FromContext(r.Context()).Settle(r.Context(), keymeter.SettleRequest{
		Provider:       keymeter.Ptr("gpt-4.1"),
		Quantity:       keymeter.Ptr[int64](900),
		OutputQuantity: keymeter.Ptr[int64](250),
	})
	if err != nil {
		log.Print(err)
		return
	}
	fmt.Fprintln(w, "at", settled.Credits, "credits")
}
