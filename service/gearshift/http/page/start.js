// What to do where nobody has asked anything yet.
import { h, say } from "./dom.js";

const KINDS = { FP32: "float32", FP64: "float64", FP16: "float16", UINT8: "uint8", INT8: "int8", INT16: "int16", INT32: "int32", INT64: "int64", BOOL: "bool" };

// Shown until the first request of any model.
export function update(section, board) {
  const asked = board.models.some((model) => model.classes.some((each) => Object.keys(each.total).length));
  section.hidden = asked || !board.ready || !board.models.length;
  if (!section.hidden && !section.querySelector("p")) {
    const model = [...board.models].sort((a, b) => numbers(a) - numbers(b))[0];
    section.append(
      h("p", {}, "The server is ready; the variants below were measured on this machine. Ask for something, and this page comes to life. Any client of the Open Inference Protocol will do:"),
      example("Python, with ", "pip install tritonclient[grpc]", python(model, `${location.hostname}:${board.grpc_port}`)),
      example("or watch real traffic, with a server of its own: ", "gearshift demo", null),
    );
  }
}

// How many numbers a request has; one that is not of numbers makes a poor example.
function numbers(model) {
  return model.inputs.reduce((sum, input) => sum + (KINDS[input.datatype] ? input.shape.reduce((a, b) => a * b, 1) : Infinity), 0);
}

function example(text, command, code) {
  const made = h("div", { class: "example" }, h("p", {}, text, h("code", {}, command)));
  if (code) {
    const pre = h("pre", { tabindex: "0" }, h("code", {}, code));
    const button = h("button", { type: "button", class: "copy" }, "Copy");
    button.addEventListener("click", () => copy(button, pre, code));
    made.append(pre, button);
  }
  return made;
}

async function copy(button, pre, code) {
  try {
    await navigator.clipboard.writeText(code);
    say(button, "Copied");
  } catch {
    // Over plain HTTP from another machine: marked, for the keyboard to copy.
    getSelection().selectAllChildren(pre);
    say(button, "Marked: press Ctrl+C");
  }
}

function python(model, address) {
  const tensors = model.inputs.map((input, index) => {
    const shape = [1, ...input.shape].join(", ");
    return `x${index} = triton.InferInput("${input.name}", [${shape}], "${input.datatype}")\n` +
      `x${index}.set_data_from_numpy(np.zeros((${shape}), np.${KINDS[input.datatype] ?? "object_"}))`;
  });
  return `import numpy as np
import tritonclient.grpc as triton

client = triton.InferenceServerClient("${address}")
${tensors.join("\n")}
answer = client.infer("${model.name}", [${model.inputs.map((_, index) => `x${index}`).join(", ")}], parameters={"latency_budget_ms": 50})
print(answer.get_response().parameters)
`;
}
