/** What scripts/with-server tells. */
export const { KEYMETER_URL = "", KEYMETER_API_KEY = "", KEYMETER_SERVICE_TOKEN = "" } = process.env;
