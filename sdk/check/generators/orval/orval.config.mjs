export default {
  keymeter: {
    input: "../../../../openapi.yaml",
    output: { target: "../../generated/orval/index.ts", client: "fetch", baseUrl: process.env.KEYMETER_URL },
  },
};
