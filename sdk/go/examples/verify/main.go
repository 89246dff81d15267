// Verify asks whether a customer's key may be used, spends what the request costs, and records usage afterwards.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	keymeter "github.com/keymeter/keymeter/sdk/go"
)

func main() {
	ctx := context.Background()
	service, err := keymeter.New(os.Getenv("KEYMETER_URL"), os.Getenv("KEYMETER_SERVICE_TOKEN"))
	if err != nil {
		log.Fatal(err)
	}
	verdict, err := service.VerifyKey(ctx, keymeter.VerifyKeyRequest{
		Key: os.Getenv("KEYMETER_API_KEY"),
		Cost: &keymeter.Cost{
			Category: keymeter.CategoryTTS,
			Provider: keymeter.Ptr("cartesia"),
			Quantity: keymeter.Ptr[int64](1200),
		},
	})
	if err != nil {
		log.Fatal(err) // nothing is known: this is no refusal
	}
	if !verdict.Valid {
		fmt.Println("refuse:", verdict.Code)
		return
	}
	fmt.Println("serve: spent", *verdict.Credits)

	event := keymeter.UsageEvent{ID: "search-1", KeyID: verdict.KeyID, Category: keymeter.CategoryRAG, Quantity: keymeter.Ptr[int64](3)}
	for range 2 { // the same event counts once
		result, err := service.RecordUsage(ctx, event)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(result.Status, result.Credits, "duplicate:", result.Duplicate)
	}
	results, err := service.RecordUsageBatch(ctx, []keymeter.UsageEvent{
		{AccountID: verdict.AccountID, Category: keymeter.CategoryLLM, Credits: keymeter.Ptr[int64](5)},
		{AccountID: verdict.AccountID, Category: keymeter.CategoryLLM, Credits: keymeter.Ptr[int64](1_000_000)},
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, result := range results {
		if err := result.Err(); err != nil {
			fmt.Println("refused:", keymeter.IsCode(err, keymeter.ErrorCodeCreditsExhausted))
			continue
		}
		fmt.Println(result.Status, result.Credits)
	}
}
