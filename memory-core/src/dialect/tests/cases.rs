//! Small histories that message readers often get wrong.

use super::*;

/// Base64 that must not appear as text.
const DATA: &str = "iVBORw0KGgoAAAANSUhEUgAA";

/// All texts of a message that the model reads as text.
fn texts(message: &str) -> String {
    let message = json(message);
    let dialect = Dialect::detect(&message).unwrap();
    let mut all = String::new();
    for part in dialect.parts(&message) {
        part.visit_text(&mut |text| {
            all.push_str(text);
            all.push('\n');
        });
    }
    all
}

#[test]
fn media_are_media_at_any_depth() {
    let cases = [
        (
            r#"{"role":"user","content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"DATA"}}]}"#,
            "Image data DATA <image/png>",
        ),
        (
            r#"{"role":"user","content":[{"type":"input_audio","input_audio":{"data":"DATA","format":"wav"}}]}"#,
            "Audio data DATA <wav>",
        ),
        (
            r#"{"role":"user","content":[{"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"DATA"}}]}"#,
            "Document data DATA <application/pdf>",
        ),
        (
            r#"{"role":"user","content":[{"type":"file","file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,DATA"}}]}"#,
            "Document data DATA <application/pdf> <a.pdf>",
        ),
        (
            r#"{"role":"user","content":[{"inline_data":{"mime_type":"image/png","data":"DATA"}}]}"#,
            "Image data DATA <image/png>",
        ),
        (
            r#"{"role":"user","parts":[{"inlineData":{"mimeType":"video/mp4","data":"DATA"},"mediaResolution":{"level":"MEDIA_RESOLUTION_LOW"}}]}"#,
            "Video data DATA <video/mp4> <low>",
        ),
        (
            r#"{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,DATA"},"text":"alt"}]}"#,
            "Image data DATA <image/png>",
        ),
        (
            r#"{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,DATA","detail":"high"}}]}"#,
            "Image data DATA <image/png> <high>",
        ),
        (
            r#"{"role":"user","content":[{"type":"image_url","image_url":"data:image/png;base64,DATA"}]}"#,
            "Image data DATA <image/png>",
        ),
        (
            r#"{"role":"user","content":[{"type":"video_url","video_url":{"url":"data:video/mp4;base64,DATA"}}]}"#,
            "Video data DATA <video/mp4>",
        ),
        (r#"{"role":"user","content":"see","images":["DATA"]}"#, "text see|Image data DATA"),
        (
            r#"{"role":"user","content":[{"type":"image","data":"DATA","mimeType":"image/png"}]}"#,
            "Image data DATA <image/png>",
        ),
        (
            r#"{"role":"user","content":[{"type":"image","base64":"DATA","mime_type":"image/png"}]}"#,
            "Image data DATA <image/png>",
        ),
        (
            r#"{"role":"user","content":[{"type":"image","image":"data:image/png;base64,DATA"}]}"#,
            "Image data DATA <image/png>",
        ),
        (
            r#"{"role":"user","content":[{"type":"file","data":"DATA","mediaType":"image/png"}]}"#,
            "Image data DATA <image/png>",
        ),
        (
            r#"{"role":"user","content":[{"image":{"format":"png","source":{"bytes":"DATA"}}}]}"#,
            "Image data DATA <png>",
        ),
        (
            r#"{"role":"user","content":[{"document":{"format":"pdf","name":"a","source":{"s3Location":{"uri":"s3://b/a.pdf"}}}}]}"#,
            "Document url s3://b/a.pdf <pdf> <a>",
        ),
        (
            r#"{"id":"m","role":"user","parts":[{"type":"file","url":"data:image/png;base64,DATA","mediaType":"image/png","filename":"a.png"}]}"#,
            "Image data DATA <image/png> <a.png>",
        ),
        (
            r#"{"role":"user","content":[{"type":"resource","resource":{"uri":"file:///a","mimeType":"text/plain","text":"words"}}]}"#,
            "Document inline words <text/plain> <file:///a>",
        ),
        (
            r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"DATA"}}]}]}"#,
            "result t: Image data DATA <image/png>",
        ),
        (
            r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":[{"type":"image","data":"DATA","mimeType":"image/png"}]}]}"#,
            "result t: Image data DATA <image/png>",
        ),
        (
            r#"{"role":"tool","tool_call_id":"c","content":"[{\"type\": \"text\", \"text\": \"a\\nb\"}, {\"type\": \"image\", \"data\": \"DATA\", \"mimeType\": \"image/png\"}]"}"#,
            "result c: text a\nb + Image data DATA <image/png>",
        ),
        (
            r#"{"role":"tool","tool_call_id":"c","content":[{"type":"image","data":"DATA","mimeType":"image/png"}]}"#,
            "result c: Image data DATA <image/png>",
        ),
        (
            r#"{"role":"tool","tool_call_id":"c","content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"DATA"}}]}"#,
            "result c: Image data DATA <image/png>",
        ),
        (
            r#"{"type":"function_call_output","call_id":"c","output":[{"type":"input_image","image_url":"data:image/png;base64,DATA"}]}"#,
            "result c: Image data DATA <image/png>",
        ),
        (
            r#"{"role":"user","content":[{"toolResult":{"toolUseId":"t","content":[{"image":{"format":"png","source":{"bytes":"DATA"}}}]}}]}"#,
            "result t: Image data DATA <png>",
        ),
        (
            r#"{"role":"user","parts":[{"functionResponse":{"name":"f","response":{},"parts":[{"inlineData":{"mimeType":"image/png","data":"DATA"}}]}}]}"#,
            "result - (f): Image data DATA <image/png>",
        ),
        (
            r#"{"role":"tool","content":[{"type":"tool-result","toolCallId":"c","toolName":"f","output":{"type":"content","value":[{"type":"media","data":"DATA","mediaType":"image/png"}]}}]}"#,
            "result c (f): Image data DATA <image/png>",
        ),
        (
            r#"{"role":"tool","content":[{"type":"tool-result","toolCallId":"c","toolName":"f","output":{"type":"json","value":{"content":[{"type":"image","data":"DATA","mimeType":"image/png"}]}}}]}"#,
            "result c (f): Image data DATA <image/png>",
        ),
        (
            r#"{"role":"user","parts":[{"functionResponse":{"name":"f","response":{"content":[{"type":"image","data":"DATA","mimeType":"image/png"}]}}}]}"#,
            "result - (f): Image data DATA <image/png>",
        ),
        (
            r#"{"role":"user","content":[{"type":"input_text","text":"a"},{"type":"input_file","file_data":"data:application/pdf;base64,DATA","filename":"a.pdf"}]}"#,
            "text a|Document data DATA <application/pdf> <a.pdf>",
        ),
    ];
    for (message, expected) in cases {
        let message = message.replace("DATA", DATA);
        assert_eq!(lines(&message).join("|"), expected.replace("DATA", DATA), "{message}");
        assert!(!texts(&message).contains(DATA), "{message}");
        // Base64 is never part of a text, in any form.
        let native = json(&message);
        let from = Dialect::detect(&native).unwrap();
        for to in Dialect::ALL {
            for written in convert(&native, from, to).messages {
                let text = texts(&written.to_string());
                assert!(!text.contains(DATA), "{to}: {written}");
            }
        }
    }
}

#[test]
fn text_of_documents_and_citations_is_text() {
    let document = r#"{"role":"user","content":[{"type":"document","title":"x","text":"t","source":{"type":"text","data":"word word"}}]}"#;
    assert_eq!(lines(document), ["Document inline word word <x>"]);
    assert_eq!(texts(document), "x\nword word\n");
    let result = r#"{"role":"tool","tool_call_id":"c","content":[{"type":"text","text":"ok","citations":[{"cited_text":"word word"}]}]}"#;
    assert_eq!(texts(result), "ok\nword word\n");
    let nested = r#"{"role":"user","content":[{"type":"document","context":"c","source":{"type":"content","content":[{"type":"text","text":"in"}]}},{"type":"search_result","source":"s","title":"t","content":[{"type":"text","text":"hit"}]}]}"#;
    assert_eq!(texts(nested), "c\nin\nt\ns\nhit\n");
    let cited = r#"{"role":"assistant","content":[{"citationsContent":{"content":[{"text":"so"}],"citations":[{"title":"T","sourceContent":[{"text":"quote"}]}]}}]}"#;
    assert_eq!(texts(cited), "so\nT\nquote\n");
}

#[test]
fn reasoning_is_read_from_every_field() {
    let lines =
        |fields: &str| lines(&format!(r#"{{"role":"assistant","content":"391",{fields}}}"#));
    assert_eq!(
        lines(r#""reasoning_content":"step""#),
        [r#"reasoning "step" unsigned"#, "text 391"]
    );
    assert_eq!(
        lines(
            r#""reasoning_details":[{"type":"reasoning.text","text":"step","signature":"x"}],"reasoning":"step""#
        ),
        [r#"reasoning "step" unsigned"#, r#"reasoning "step" x"#, "text 391"]
    );
    assert_eq!(
        lines(r#""thinking_blocks":[{"type":"thinking","thinking":"step","signature":"x"}]"#),
        [r#"reasoning "step" x"#, "text 391"]
    );
    assert_eq!(lines(r#""thinking":"step""#), [r#"reasoning "step" unsigned"#, "text 391"]);
    let mistral = r#"{"role":"assistant","content":[{"type":"thinking","thinking":[{"type":"text","text":"step"}]},{"type":"text","text":"391"}]}"#;
    assert_eq!(super::lines(mistral), [r#"reasoning "step" unsigned"#, "text 391"]);
}

#[test]
fn audio_answer_is_transcript_and_sound() {
    let message = r#"{"role":"assistant","content":"ok","annotations":[{"type":"url_citation"}],"audio":{"id":"a","data":"QUJD","transcript":"word word"}}"#;
    assert_eq!(lines(message), ["text ok", "Transcript word word", "Audio file a"]);
    let written = convert(&json(message), Dialect::Chat, Dialect::Anthropic);
    assert_eq!(
        all_lines(Dialect::Anthropic, &written.messages)[..2],
        ["text ok", "text word word"]
    );
}

#[test]
fn histories_of_cases_are_read() {
    let cases = [
        (r#"{"role":"user","content":"hi"}"#, "text hi"),
        (r#"{"role":"assistant","content":""}"#, ""),
        (r#"{"role":"assistant","content":null}"#, ""),
        (r#"{"role":"assistant","content":[]}"#, ""),
        (r#"{"role":"assistant"}"#, ""),
        (r#"{"role":"user","content":"  \n"}"#, "text   \n"),
        (
            r#"{"role":"assistant","content":"hello","tool_calls":[],"function_call":null,"refusal":null,"annotations":[],"audio":null,"name":null}"#,
            "text hello",
        ),
        (
            r#"{"role":"assistant","content":[{"type":"thinking","thinking":"I need two calls.","signature":"EqQBCgIYAhIM"},{"type":"tool_use","id":"toolu_01A","name":"weather","input":{"city":"Oslo"}},{"type":"tool_use","id":"toolu_01B","name":"weather","input":{"city":"Bergen"}}]}"#,
            "reasoning \"I need two calls.\" EqQBCgIYAhIM|call toolu_01A weather {\"city\":\"Oslo\"}|call toolu_01B weather {\"city\":\"Bergen\"}",
        ),
        (
            r#"{"role":"model","parts":[{"functionCall":{"name":"weather","args":{"city":"Oslo"}}}]}"#,
            "call - weather {\"city\":\"Oslo\"}",
        ),
        (
            r#"{"role":"user","parts":[{"functionResponse":{"name":"weather","response":{"output":"rain"}}}]}"#,
            "result - (weather): text rain",
        ),
        (
            r#"{"id":"m2","role":"assistant","parts":[{"type":"tool-weather","toolCallId":"c1","state":"output-available","input":{"city":"Oslo"},"output":"rain"},{"type":"text","text":"Rain."}]}"#,
            "call c1 weather {\"city\":\"Oslo\"}|result c1 (weather): text rain|text Rain.",
        ),
        (
            r#"{"role":"tool","tool_call_id":"c1","content":[{"type":"text","text":"found"},{"type":"json","json":{"id":"1"}}]}"#,
            "result c1: text found + data {\"id\":\"1\"}",
        ),
        (
            r#"{"role":"ai","content":"","tool_calls":[{"name":"f","args":{"a":1},"id":"c1","type":"tool_call"}]}"#,
            "call c1 f {\"a\":1}",
        ),
        (
            r#"{"role":"ai","content":[{"type":"text","text":"so"},{"type":"tool_use","id":"c1","name":"f","input":{"a":1}}],"tool_calls":[{"name":"f","args":{"a":1},"id":"c1","type":"tool_call"}]}"#,
            "text so|call c1 f {\"a\":1}",
        ),
        (
            r#"{"role":"tool","content":"r","tool_call_id":"c1","status":"error"}"#,
            "result c1 failed: text r",
        ),
        (
            r#"{"role":"tool","content":[{"type":"document","document":{"id":"1","data":"words"}}],"tool_call_id":"c"}"#,
            "result c: Document inline words",
        ),
        (
            r#"{"role":"assistant","tool_plan":"first","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]}"#,
            "Plan first|call c f {}",
        ),
        (
            r#"{"role":"assistant","tool_calls":[{"id":"c","type":"custom","custom":{"name":"sh","input":"ls"}}]}"#,
            "call c sh ls",
        ),
    ];
    for (message, expected) in cases {
        assert_eq!(lines(message).join("|"), expected, "{message}");
    }
}

#[test]
fn storage_fields_are_left_out_of_requests() {
    let cases = [
        (
            r#"{"conversation_id":"c-1","index":0,"role":"user","content":"hi","name":"ann"}"#,
            r#"{"role":"user","content":"hi","name":"ann"}"#,
        ),
        (
            r#"{"role":"assistant","content":"hello","tool_calls":[],"function_call":null,"refusal":null,"annotations":[],"audio":null,"name":null}"#,
            r#"{"role":"assistant","content":"hello"}"#,
        ),
        (
            r#"{"id":"msg_1","type":"message","role":"assistant","content":[{"type":"text","text":"so","citations":null,"x":1},{"type":"tool_use","id":"t","name":"f","input":{"x":null},"y":2}],"stop_reason":"tool_use","usage":{}}"#,
            r#"{"role":"assistant","content":[{"type":"text","text":"so"},{"type":"tool_use","id":"t","name":"f","input":{"x":null}}]}"#,
        ),
        (
            r#"{"role":"model","parts":[{"text":"so","thoughtSignature":"c2ln","x":1}],"index":0}"#,
            r#"{"role":"model","parts":[{"text":"so","thoughtSignature":"c2ln"}]}"#,
        ),
        (
            r#"{"type":"message","role":"assistant","id":"msg_1","status":"completed","content":[{"type":"output_text","text":"Rain.","annotations":[]}],"x":1}"#,
            r#"{"type":"message","role":"assistant","id":"msg_1","status":"completed","content":[{"type":"output_text","text":"Rain.","annotations":[]}]}"#,
        ),
    ];
    for (message, expected) in cases {
        let message = json(message);
        let dialect = Dialect::detect(&message).unwrap();
        let written = convert(&message, dialect, dialect);
        assert_eq!(written.messages, [json(expected)], "{message}");
        assert_eq!(written.losses, [], "{message}");
        let copy = dialect.copy_known(&message);
        assert_eq!(copy.get("content"), written.messages[0].get("content"), "{copy}");
    }
}
