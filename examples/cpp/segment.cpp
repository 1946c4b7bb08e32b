// Segments an image with a model of `iccld export` (.onnx or .xml), in C++ with OpenVINO.
//
//   segment MODEL IMAGE.ppm LABELS.pgm
//
// The image is a binary PPM file (P6, 8 bits). The output is a binary PGM file of class indices.

#include <cstdint>
#include <exception>
#include <fstream>
#include <iostream>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include <openvino/openvino.hpp>

namespace {

struct Image {
    std::size_t width = 0, height = 0;
    std::vector<std::uint8_t> rgb;
};

std::size_t read_number(std::istream& file) {
    while (file >> std::ws && file.peek() == '#')
        file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
    std::size_t number = 0;
    file >> number;
    return number;
}

Image read_ppm(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::string magic(2, ' ');
    file.read(magic.data(), 2);
    Image image;
    image.width = read_number(file);
    image.height = read_number(file);
    const auto most = read_number(file);
    file.get();  // the single white space before the pixels
    if (!file || magic != "P6" || most != 255 || image.width > 1u << 15 || image.height > 1u << 15)
        throw std::runtime_error(path + ": is no binary PPM file with 8 bits");
    image.rgb.resize(3 * image.width * image.height);
    file.read(reinterpret_cast<char*>(image.rgb.data()), static_cast<std::streamsize>(image.rgb.size()));
    if (!file)
        throw std::runtime_error(path + ": is incomplete");
    return image;
}

}  // namespace

int main(int argc, char** argv) try {
    if (argc != 4) {
        std::cerr << "usage: segment MODEL IMAGE.ppm LABELS.pgm\n";
        return 2;
    }
    auto image = read_ppm(argv[2]);
    ov::Core core;
    // Without the hint, OpenVINO computes in bf16 on processors that support it.
    auto model = core.compile_model(argv[1], "CPU", ov::hint::inference_precision(ov::element::f32));
    auto request = model.create_infer_request();
    request.set_input_tensor(ov::Tensor(ov::element::u8, {1, image.height, image.width, 3}, image.rgb.data()));
    request.infer();
    const auto labels = request.get_tensor("labels");
    std::ofstream out(argv[3], std::ios::binary);
    out << "P5\n" << image.width << ' ' << image.height << "\n255\n";
    out.write(static_cast<const char*>(labels.data()), static_cast<std::streamsize>(labels.get_byte_size()));
    if (!out.flush())
        throw std::runtime_error(std::string(argv[3]) + ": cannot be written");
    return 0;
} catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
}
